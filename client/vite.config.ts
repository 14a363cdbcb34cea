import { basename } from "node:path";
import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

const server = "http://127.0.0.1:3000";

/** The app connects by WebSocket alone: Socket.IO's other ways are left out of what people load. */
const webSocketOnly: Plugin = {
  name: "web-socket-only",
  enforce: "pre",
  load: (id) =>
    /engine\.io-client\/build\/esm\/transports\/(?:polling-\w+|webtransport)\.js$/.test(id)
      ? "export class XHR {} export class Fetch {} export class WT {}"
      : null,
};

/** No text is searched for named characters: see `markdown.ts`. */
const noNamedCharacters: Plugin = {
  name: "no-named-characters",
  enforce: "pre",
  resolveId: (id) => (id === "entities" ? "\0no-entities" : null),
  load: (id) => (id === "\0no-entities" ? "export const decodeHTMLStrict = (text) => text;" : null),
};

/**
 * What a page needs first, and what it loads soon after, comes in few files: each costs more than its few KB. A group
 * takes along what its modules import; all else is split by who uses it.
 */
const FILES = [
  { name: "index", tags: ["$initial" as const], priority: 3 },
  // What the log-in shares with the shell.
  { name: "parts", test: /\/ui\/(?:Avatar|Button|Fault|Field|PasswordField)\.tsx$/, priority: 2 },
  { name: "Shell", test: /\/Shell\.tsx$/, priority: 1 },
  // A room may begin with files.
  { name: "Files", test: /\/Files\.tsx$/, priority: 1 },
  // What people open, loaded soon after. Each file costs 10 ms of CPU time.
  { name: "later", test: /\/(?:Actions|AskToNotify|EmojiPicker|Overlay|ThreadPane|Tray)\.tsx$/ },
];

export default defineConfig(({ command }) => {
  // A build is what people get, also one that a test run makes with NODE_ENV=test.
  // oxlint-disable-next-line node/no-process-env
  if (command === "build") process.env["NODE_ENV"] = "production";
  return {
    root: import.meta.dirname,
    plugins: [webSocketOnly, noNamedCharacters, react()],
    css: {
      modules: {
        // `name` of Profile.module.css is Profile_name: no two such files have the same name.
        generateScopedName: (local, file) => `${basename(file).split(".")[0] ?? ""}_${local}`,
      },
    },
    build: {
      target: "es2022",
      // light-dark() as it is, instead of a polyfill with two variables for each of ours.
      cssTarget: ["chrome123", "firefox120", "safari17.5"],
      // Nothing may be inlined: the page's policy allows no data: scripts or styles.
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
      rolldownOptions: { output: { codeSplitting: { groups: FILES } } },
    },
    server: {
      host: "127.0.0.1",
      proxy: { "/api": server, "/socket.io": { target: server, ws: true } },
    },
  };
});
