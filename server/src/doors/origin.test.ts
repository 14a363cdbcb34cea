import { IncomingMessage } from "node:http";
import { Socket } from "node:net";
import { pino } from "pino";
import { describe, expect, it } from "vitest";
import { readConfig } from "../config.ts";
import { createOrigins } from "./origin.ts";

/** The check with these variables, and what it logged and counted. */
function origins(env: Record<string, string> = {}) {
  const lines: { origin?: string; host?: string; msg: string }[] = [];
  const log = pino({}, { write: (line: string) => lines.push(JSON.parse(line) as (typeof lines)[number]) });
  const noted: string[] = [];
  const { isOwn } = createOrigins(readConfig(env), { note: (event) => noted.push(event) }, log);
  const ask = (headers: Record<string, string>) => {
    const request = new IncomingMessage(new Socket());
    Object.assign(request.headers, headers);
    return isOwn(request);
  };
  return { ask, lines, noted };
}

describe("without PUBLIC_URL, a page is the server's own", () => {
  it.each([
    ["http://localhost:3000", "localhost:3000"],
    ["http://LOCALHOST:3000", "localhost:3000"],
    ["http://hubbub.localhost:3000", "hubbub.localhost:3000"],
    ["http://127.0.0.1:3000", "127.0.0.1:3000"],
    ["http://127.8.9.1:3000", "127.8.9.1:3000"],
    ["http://[::1]:3000", "[::1]:3000"],
    ["http://192.168.1.7:3000", "192.168.1.7:3000"],
    ["http://10.0.0.7", "10.0.0.7"],
    ["http://10.0.0.7", "10.0.0.7:80"],
    ["https://10.0.0.7", "10.0.0.7:443"],
    ["https://203.0.113.9:8443", "203.0.113.9:8443"],
    ["http://[2001:db8::1]:3000", "[2001:db8:0:0::1]:3000"],
  ])("from %s at %s", (origin, host) => {
    expect(origins().ask({ origin, host })).toBe(true);
  });

  it("at the name in HOST", () => {
    const { ask } = origins({ HOST: "Chat.lan" });
    expect(ask({ origin: "http://chat.lan:3000", host: "chat.lan:3000" })).toBe(true);
    expect(ask({ origin: "http://other.lan:3000", host: "other.lan:3000" })).toBe(false);
  });

  it.each([
    ["http://evil.example", "evil.example"],
    ["http://evil.example:3000", "evil.example:3000"],
    ["https://chat.example.org", "chat.example.org"],
    ["http://localhost.evil.example:3000", "localhost.evil.example:3000"],
    ["http://127.0.0.1.evil.example", "127.0.0.1.evil.example"],
    ["http://127.0.0.1.nip.io:3000", "127.0.0.1.nip.io:3000"],
    ["http://evillocalhost:3000", "evillocalhost:3000"],
    ["http://0.0.0.0.evil", "0.0.0.0.evil"],
    ["http://127.0.0.1:3000", "127.0.0.1:3001"],
    ["http://127.0.0.1:3000", "localhost:3000"],
    ["http://evil.example", "127.0.0.1:3000"],
    ["http://127.0.0.1:3000", "evil.example"],
    ["http://127.0.0.1:3000", ""],
    ["http://127.0.0.1:3000", "user@127.0.0.1:3000"],
    ["http://127.0.0.1:3000", "127.0.0.1:3000/"],
    ["http://user@127.0.0.1:3000", "127.0.0.1:3000"],
    ["http://127.0.0.1:3000/", "127.0.0.1:3000"],
    ["ftp://127.0.0.1:3000", "127.0.0.1:3000"],
    ["null", "127.0.0.1:3000"],
    ["", "127.0.0.1:3000"],
  ])("but not from %j at %j", (origin, host) => {
    expect(origins().ask({ origin, host })).toBe(false);
  });
});

describe("with PUBLIC_URL and ORIGINS", () => {
  const env = {
    PUBLIC_URL: "https://chat.example.org:443/,https://chat.example.net",
    ORIGINS: "https://example.org",
  };

  it.each([
    "https://chat.example.org",
    "https://chat.example.org:443",
    "https://chat.example.net",
    "https://example.org",
  ])("a page at %s is the server's own, whatever Host its proxy sends", (origin) => {
    for (const host of ["chat.example.org", "app:3000", "127.0.0.1:3000"])
      expect(origins(env).ask({ origin, host })).toBe(true);
  });

  it.each([
    "http://chat.example.org",
    "https://chat.example.org:8443",
    "https://chat.example.org.evil.example",
    "https://evil.example",
    "https://a.chat.example.org",
  ])("a page at %s is foreign, even if Host names it", (origin) => {
    expect(origins(env).ask({ origin, host: new URL(origin).host })).toBe(false);
  });

  it("pages of this machine are still the server's own", () => {
    expect(origins(env).ask({ origin: "http://127.0.0.1:3000", host: "127.0.0.1:3000" })).toBe(true);
  });
});

it("with COOKIE_SECURE, a page without HTTPS is foreign", () => {
  const { ask } = origins({ COOKIE_SECURE: "on" });
  expect(ask({ origin: "http://10.0.0.7", host: "10.0.0.7" })).toBe(false);
  expect(ask({ origin: "https://10.0.0.7", host: "10.0.0.7" })).toBe(true);
});

it("a program without an Origin is accepted, and a browser with a foreign one is refused", () => {
  const { ask } = origins();
  expect(ask({ host: "chat.example.org" })).toBe(true);
  expect(ask({ host: "127.0.0.1:3000", "sec-fetch-site": "same-origin" })).toBe(true);
  for (const site of ["cross-site", "same-site"])
    expect(ask({ host: "127.0.0.1:3000", "sec-fetch-site": site })).toBe(false);
});

it("in production a server says that PUBLIC_URL is not set, also with ORIGINS", () => {
  const told = (env: Record<string, string>) =>
    origins({ NODE_ENV: "production", ...env }).lines.map(({ msg }) => msg);
  for (const env of [{ ORIGINS: "" }, { ORIGINS: "https://wiki.example.org" }])
    expect(told(env)).toEqual([expect.stringContaining("PUBLIC_URL is not set")]);
  expect(told({ PUBLIC_URL: "https://chat.example.org" })).toEqual([]);
});

it("a refused page is counted each time and logged once, with its address and the cure", () => {
  const { ask, lines, noted } = origins();
  const page = { origin: "https://chat.example.org", host: "chat.example.org" };
  for (let time = 0; time < 3; time += 1) ask(page);
  expect(noted).toEqual(["origin.refused", "origin.refused", "origin.refused"]);
  expect(lines).toMatchObject([page]);
  expect(lines[0]?.msg).toContain("set PUBLIC_URL");
  for (let name = 0; name < 500; name += 1)
    ask({ origin: `http://evil${name}.example`, host: "x".repeat(5_000) });
  expect(lines.length).toBeLessThanOrEqual(50);
  expect(lines.every(({ host = "" }) => host.length <= 200)).toBe(true);
});
