import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { VARIABLES, readConfig } from "./config.ts";

const EXAMPLE = new URL("../../.env.example", import.meta.url);

describe("readConfig", () => {
  it("needs no variable: each has a default", () => {
    expect(readConfig({})).toMatchObject({
      port: 3000,
      host: "127.0.0.1",
      rateLimits: true,
      production: false,
    });
  });

  it("takes an empty variable, as a compose file passes it, for an absent one", () => {
    const empty = Object.fromEntries(Object.keys(VARIABLES).map((name) => [name, ""]));
    expect({ ...readConfig(empty), serverId: "" }).toEqual({ ...readConfig({}), serverId: "" });
  });

  it("takes a blank variable for an absent one, and no blank around a value for a part of it", () => {
    const blank = Object.fromEntries(Object.keys(VARIABLES).map((name) => [name, " \t\n"]));
    expect({ ...readConfig(blank), serverId: "" }).toEqual({ ...readConfig({}), serverId: "" });
    expect(
      readConfig({ PORT: " 80\n", COOKIE_SECURE: "on ", PUBLIC_URL: "https://a.example, https://b.example" }),
    ).toMatchObject({
      port: 80,
      cookieSecure: true,
      publicOrigins: ["https://a.example", "https://b.example"],
    });
  });

  it("takes METRICS_PORT of a Kubernetes service for an absent one", () => {
    expect(readConfig({ METRICS_PORT: "tcp://10.0.0.1:9464" }).metricsPort).toBeUndefined();
    expect(() => readConfig({ METRICS_PORT: "9464/tcp" })).toThrow(/METRICS_PORT: takes a whole number/);
  });

  it("refuses one port for the page and for metrics, unless their addresses differ", () => {
    for (const env of [{}, { HOST: "0.0.0.0" }, { HOST: "10.0.0.1", METRICS_HOST: "::" }])
      expect(() => readConfig({ PORT: "3000", METRICS_PORT: "3000", ...env })).toThrow(
        "METRICS_PORT: 3000 is PORT already",
      );
    expect(readConfig({ METRICS_PORT: "3000", HOST: "10.0.0.1" }).metricsPort).toBe(3000);
    expect(readConfig({ PORT: "0", METRICS_PORT: "0" }).metricsPort).toBe(0);
  });

  it("refuses a path in PUBLIC_URL, and says why", () => {
    for (const url of ["https://chat.example/chat", "https://chat.example/?a", "https://chat.example/#a"])
      expect(() => readConfig({ PUBLIC_URL: url }), url).toThrow(/PUBLIC_URL.*: takes no path/);
    expect(readConfig({ PUBLIC_URL: "https://chat.example/" }).publicOrigins).toEqual([
      "https://chat.example",
    ]);
  });

  it("refuses what no request could ever match, and says what to write", () => {
    for (const [name, value, words] of [
      ["PUBLIC_URL", "https://*.example.org", "takes whole names, without a star"],
      ["ORIGINS", "https://a.example,https://*.example.org", "takes whole names, without a star"],
      ["FILES_TYPES", "image/png,image/jpg", "no file is ever read as image/jpg"],
      ["FILES_TYPES", "images/*", "no file is ever read as images/*"],
      ["FILES_SPOOL", "file:/x", "takes a path, not an address"],
      ["FILES_SPOOL", "~/x", "takes a path without ~"],
      ["CLIENT_DIR", "~/x", "takes a path without ~"],
      ["FILES_URL", "file:~/x", "has a ~, which only a shell knows"],
    ] as const)
      expect(() => readConfig({ [name]: value }), value).toThrow(
        new RegExp(`${name}.*${words.replaceAll("*", "\\*")}`),
      );
    const types = "image/*,application/pdf,text/plain,application/octet-stream,audio/ogg";
    expect(readConfig({ FILES_TYPES: types }).files.types).toEqual(types.split(","));
    for (const url of ["https://[2001:db8::1]", "http://10.0.0.1:3000", "https://münchen.example"])
      expect(readConfig({ PUBLIC_URL: url }).publicOrigins, url).toHaveLength(1);
  });

  it("gives each process a new name if SERVER_ID is not set", () => {
    expect(readConfig({}).serverId).not.toBe(readConfig({}).serverId);
    expect(readConfig({ SERVER_ID: "left" }).serverId).toBe("left");
  });

  it.each([
    [{}, "open", true],
    [{ HOST: "localhost" }, "open", true],
    [{ HOST: "::1", NODE_ENV: "test" }, "open", true],
    [{ HOST: "0.0.0.0" }, "invite", false],
    [{ HOST: "192.168.1.5" }, "invite", false],
    [{ NODE_ENV: "production" }, "invite", false],
    [{ NODE_ENV: "production", SIGNUP: "open", DEMO: "on" }, "open", true],
    [{ HOST: "0.0.0.0", DEMO: "on" }, "invite", true],
    [{ SIGNUP: "closed", DEMO: "off" }, "closed", false],
  ])(
    "of %j lets strangers and demo people only in where nobody else comes, or as it says",
    (env, signUp, demo) => {
      expect(readConfig(env)).toMatchObject({ signUp, demo });
    },
  );

  it("names all faults at once", () => {
    const wrong = {
      PORT: "99999",
      KEY_PREFIX: "with space",
      ORIGINS: "https://chat.example,nonsense",
      POLLING: "yes",
      BCRYPT_COST: "3",
      SESSION_SECRET: "short",
      REDIS_URL: "http://cache",
    };
    let message = "";
    try {
      readConfig(wrong);
    } catch (error) {
      message = String(error);
    }
    expect(Object.keys(wrong).filter((name) => !message.includes(name))).toEqual([]);
  });

  it("reads every list in one way: blanks at the edges of a value are none of it, and commas alone are a fault", () => {
    const [fresh, old] = ["n".repeat(32), "o".repeat(32)];
    expect(readConfig({ SESSION_SECRET: ` ${fresh} , ${old},\n` }).sessionSecrets).toEqual([fresh, old]);
    expect(readConfig({ FILES_TYPES: " image/PNG , text/plain," }).files.types).toEqual([
      "image/png",
      "text/plain",
    ]);
    const lists = ["SESSION_SECRET", "PUBLIC_URL", "ORIGINS", "FILES_TYPES"];
    for (const name of lists)
      for (const value of [",", " , ,"])
        expect(() => readConfig({ [name]: value }), name).toThrow(
          `${name}: has commas, and nothing between them`,
        );
  });

  it("never repeats a secret in a fault", () => {
    expect(() => readConfig({ SESSION_SECRET: "tooshortasecret" })).toThrow(
      /^(?!.*tooshortasecret).*SESSION_SECRET/,
    );
  });

  it("reduces origins to what a browser sends", () => {
    expect(readConfig({ ORIGINS: "https://Chat.Example:443/app,http://localhost:5173" }).origins).toEqual([
      "https://chat.example",
      "http://localhost:5173",
    ]);
  });

  it("refuses an origin that no browser sends", () => {
    for (const origin of ["ftp://chat.example", "null", "chat.example", "javascript:alert(1)"])
      expect(() => readConfig({ ORIGINS: origin }), origin).toThrow(/ORIGINS/);
  });

  it("refuses a prefix of keys that another installation would take for its own", () => {
    for (const prefix of ["staff:", "room:2:", "user:", "settings:x"])
      expect(() => readConfig({ KEY_PREFIX: prefix }), prefix).toThrow(/KEY_PREFIX: Hubbub's own keys/);
    for (const prefix of ["chat:", "staff", "users:"])
      expect(readConfig({ KEY_PREFIX: prefix }).keyPrefix).toBe(prefix);
  });

  it("refuses invalid numbers and numbers out of range", () => {
    for (const port of ["http", "3000.5", "-1", "65536", "NaN", "Infinity", "0x50", "3e3", "+80", "80 81"])
      expect(() => readConfig({ PORT: port }), port).toThrow(
        "The environment is wrong. PORT: takes a whole number from 0 to 65535, in digits",
      );
    for (const workers of ["many", "0", "0x2", "129"])
      expect(() => readConfig({ WORKERS: workers }), workers).toThrow(
        "WORKERS: takes auto, or a whole number",
      );
  });
});

describe(".env.example", () => {
  it("lists every variable with its default, and no other", () => {
    expect(existsSync(EXAMPLE), ".env.example").toBe(true);
    const lines = readFileSync(EXAMPLE, "utf8").split("\n");
    const listed = lines.flatMap((line) => {
      const match = /^#? ?([A-Z][A-Z_]*)=(.*)$/.exec(line);
      return match ? [[match[1], match[2]]] : [];
    });
    expect(Object.fromEntries(listed)).toEqual(VARIABLES);
    expect(listed).toHaveLength(Object.keys(VARIABLES).length);
  });
});
