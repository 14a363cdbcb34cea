import { readFileSync } from "node:fs";
import { join } from "node:path";
import { format, resolveConfig } from "prettier";
import { mayActOn, RIGHTS } from "../server/src/chat/access.ts";
import { VARIABLES } from "../server/src/config.ts";
import { STATUS } from "../server/src/doors/failure.ts";
import { BOUNDS, QUEUES, RATES, SHED, TURNS } from "../server/src/limits.ts";
import * as wire from "../server/src/protocol.ts";
import { root } from "./prepare.mjs";

const source = (file: string) => readFileSync(join(root, "server/src", file), "utf8");
const protocol = source("protocol.ts");
const number = (value: number) => value.toLocaleString("en");
const code = (text: string) => `\`${text}\``;

/** A Markdown table; a bar in a cell is escaped. */
function table(head: string[], rows: (string | number)[][]): string {
  const line = (cells: (string | number)[]) =>
    `| ${cells.map((cell) => (typeof cell === "number" ? number(cell) : cell.replaceAll("|", String.raw`\|`))).join(" | ")} |`;
  return [head, head.map(() => "---"), ...rows].map(line).join("\n");
}

/** The text of a doc comment, on one line. */
function prose(comment = ""): string {
  return comment
    .replaceAll(/^\s*\/\*\*[\s*]*|\s*\*\/\s*$/g, "")
    .replaceAll(/\s*\n\s*\*?\s*/g, " ")
    .trim();
}

const COMMENT = String.raw`(\/\*\*(?:(?!\*\/)[^])*\*\/)\s*`;

/** The doc comment above what is declared under a name. */
function commentOf(name: string, text: string): string {
  return prose(new RegExp(String.raw`${COMMENT}(?:export const )?"?${name}"?(?::| =|,)`).exec(text)?.[1]);
}

/** Rows of key, type, content and the command that shows it, from the table in keys.ts. */
export function keys(): string[][] {
  return [...source("keys.ts").matchAll(/^ \* \| (`.*) \|$/gm)].map(([, row = ""]) => row.split(" | "));
}

/**
 * The comment above each route, with its query or body, an arrow and its answer, is its row in docs/api.md: one for
 * each line with an arrow; a line without one continues the line before.
 */
function routes(): string[][] {
  const found = ["signIn", "accounts", "people", "rooms", "messages", "files", "rest"]
    .map((door) => source(`doors/${door}.ts`))
    .join("")
    .matchAll(/((?: +\/\/ .*\n)*) +router\.(get|post|put|patch|delete)\("([^"]+)"/g);
  return [...found].flatMap(([, comment = "", method = "", path = ""]) => {
    const isHealth = ["/healthz", "/readyz", "/metrics"].includes(path);
    const call = `${method.toUpperCase()} ${isHealth ? "" : "/api"}${path}`;
    const lines = comment
      .replaceAll(/^ *\/\/ /gm, "")
      .trim()
      .split(/\n(?=.*->)/);
    return lines.map((line) => {
      const [asked = "", answer = ""] = line.replaceAll("\n", " ").split(/ ?-> (.*)/);
      if (asked === "" || asked.startsWith("?")) return [code(call + asked), answer];
      return [`${code(call)} ${asked.startsWith("{") ? code(asked) : asked}`, answer];
    });
  });
}

/** Rows of event, body, answer and comment. */
function events(type: "ClientEvents" | "ServerEvents"): string[][] {
  const block = new RegExp(`export type ${type} = \\{\n([^]*?)\n\\};`).exec(protocol)?.[1] ?? "";
  const event = new RegExp(
    String.raw`(?:${COMMENT})?"?([\w.]+)"?: \(\s*\w+: (.*?)(?:,\s*answer: Answer<(.*)>)?,?\s*\) => void;`,
    "g",
  );
  return [...block.matchAll(event)].map(([, comment, name = "", sent = "", answer]) => [
    code(name),
    code(sent),
    ...(answer === undefined ? [] : [code(answer)]),
    prose(comment),
  ]);
}

/** Rows of the limits of input, figures and patterns, with their comments in protocol.ts. */
function input(): (string | number)[][] {
  const { LIMITS, ROOM_ID, USER_ID, USERNAME, NONCE } = wire;
  const limits = protocol.slice(protocol.indexOf("export const LIMITS"));
  return [
    ...Object.entries(LIMITS).map(([name, value]) => [code(name), value, commentOf(name, limits)]),
    ...Object.entries({ ROOM_ID, USER_ID, USERNAME, NONCE }).map(([name, pattern]) => [
      code(name),
      code(String(pattern)),
      commentOf(name, protocol),
    ]),
  ];
}

function variables(): string[][] {
  const config = source("config.ts");
  return Object.entries(VARIABLES).map(([name, value]) => [
    code(name),
    value && code(value),
    commentOf(name, config).replaceAll(/docs\/(\w+\.md)/g, "[$1]($1)"),
  ]);
}

/** A field of a type may have the name of a code. */
const codes = /export const ERROR_CODES[^]*?as const;/.exec(protocol)?.[0] ?? "";

/** The types of protocol.ts that events and answers name. */
function shapes(): string {
  const types = /export type UserId[^]*?(?=export type ClientEvents)/.exec(protocol)?.[0] ?? "";
  return `\`\`\`ts\n${types.replace(/export const ERROR_CODES[^]*?as const;\n/, "")}\`\`\``;
}

/** Who may do what in a room: a row for each action. */
function rights(): string[][] {
  const tick = (yes: boolean) => (yes ? "yes" : "no");
  return Object.entries(RIGHTS).map(([name, right]) => {
    const { role, kinds, archived, muted, what } = right;
    const has = wire.ROOM_ROLES.map((one) => tick(one === role || mayActOn(wire.ROOM_ROLES, one, role)));
    const rooms = kinds.length === 4 ? "all" : kinds.map(code).join(", ");
    return [code(name), what, rooms, ...has, tick(archived), tick(muted)];
  });
}

const MADE: Record<string, () => string> = {
  rights: () =>
    table(
      ["action", "what", "kinds of rooms", ...wire.ROOM_ROLES, "in an archived room", "while muted"],
      rights(),
    ),
  keys: () => table(["key", "type", "holds", "look"], keys()),
  routes: () => table(["call", "answers"], routes()),
  requests: () => table(["client → server", "with", "answered with", "what"], events("ClientEvents")),
  events: () => table(["server → client", "with", "when"], events("ServerEvents")),
  shapes,
  codes: () =>
    table(
      ["code", "status", "means"],
      Object.entries(STATUS).map(([name, status]) => [code(name), status, commentOf(name, codes)]),
    ),
  input: () => table(["limit", "value", "of"], input()),
  variables: () => table(["variable", "default", "meaning"], variables()),
  rates: () =>
    table(
      ["limit", "points", "seconds", "of", "counted", "what for"],
      Object.entries(RATES).map(([name, { points, seconds, of, counted, why }]) => [
        code(name),
        points,
        seconds,
        of,
        counted,
        why,
      ]),
    ),
  queues: () =>
    table(
      ["queue", "at once", "waiting", "why"],
      Object.entries(QUEUES).map(([name, { running, waiting, why }]) => [code(name), running, waiting, why]),
    ),
  turns: () =>
    table(
      ["asked for", "units", "why"],
      Object.entries(TURNS).map(([name, { units, why }]) => [code(name), units, why]),
    ),
  bounds: () =>
    table(
      ["bound", "value", "unit", "why"],
      Object.entries(BOUNDS).map(([name, { value, unit, why }]) => [code(name), value, unit, why]),
    ),
  shed: () =>
    table(
      ["kind", "event loop late by", "memory used", "why"],
      Object.entries(SHED).map(([name, { delayMs, memory, why }]) => [
        code(name),
        `${number(delayMs)} ms`,
        `${Math.round(memory * 100)} %`,
        why,
      ]),
    ),
};

/** A page of the docs with everything between `<!-- made:NAME -->` and `<!-- end -->` made anew. */
export async function remade(file: string): Promise<string> {
  const path = join(root, file);
  const text = readFileSync(path, "utf8").replaceAll(
    /(<!-- made:(\w+) -->)[^]*?(?=<!-- end -->)/g,
    (_all, begin: string, name: string) => {
      const make = MADE[name];
      if (!make) throw new Error(`${file}: nothing makes "${name}"`);
      return `${begin}\n\n${make()}\n\n`;
    },
  );
  return format(text, { ...(await resolveConfig(path)), filepath: path });
}
