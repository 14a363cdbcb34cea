import { readFileSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseRedisUrl } from "./redisUrl.ts";

/** How an address is shown, or what is wrong with it. */
function said(url: string): string {
  try {
    return parseRedisUrl(url).shown;
  } catch (error) {
    return error instanceof Error ? error.message : "thrown: no Error";
  }
}

describe("parseRedisUrl", () => {
  it("reads one Redis: host, port, database and credentials", () => {
    expect(parseRedisUrl("redis://cache")).toEqual({
      kind: "one",
      nodes: [{ host: "cache", port: 6379 }],
      db: 0,
      family: 0,
      shown: "redis://cache:6379",
    });
    expect(
      parseRedisUrl("rediss://ann:p%40ss%2Fw%23%25@[::1]:7000/2?ca=/ca.pem&servername=cache&family=6"),
    ).toEqual({
      kind: "one",
      username: "ann",
      password: "p@ss/w#%",
      tls: { ca: "/ca.pem", servername: "cache" },
      nodes: [{ host: "::1", port: 7000 }],
      db: 2,
      family: 6,
      shown: "rediss://[::1]:7000/2",
    });
    expect(parseRedisUrl("redis://:a:b,c@cache?db=3&tls=on")).toMatchObject({
      password: "a:b,c",
      db: 3,
      tls: {},
    });
  });

  it("ignores blanks around the address and the case of its scheme", () => {
    expect(said(" \tRediss://cache\r\n")).toBe("rediss://cache:6379");
  });

  it("reads a socket with its database and credentials", () => {
    expect(parseRedisUrl("unix:///run/my%20redis.sock?db=2")).toEqual({
      kind: "socket",
      path: "/run/my redis.sock",
      db: 2,
      shown: "unix:///run/my redis.sock",
    });
    expect(parseRedisUrl("redis+unix://ann:secret@/run/redis.sock")).toMatchObject({
      username: "ann",
      password: "secret",
      path: "/run/redis.sock",
    });
  });

  it("reads a Sentinel group: its own credentials, TLS to either, the database, and NAT", () => {
    const address = parseRedisUrl(
      "rediss+sentinel://ann:secret@one,two:26380,[::1]/main/2?sentinelUsername=bob&sentinelPassword=a%26+b&" +
        "sentinelTls=off&nat=10.0.0.1:6379=outside:7001,[fd00::1]:6379=[::1]:7002",
    );
    expect(address).toEqual({
      kind: "sentinel",
      username: "ann",
      password: "secret",
      tls: {},
      nodes: [
        { host: "one", port: 26379 },
        { host: "two", port: 26380 },
        { host: "::1", port: 26379 },
      ],
      name: "main",
      db: 2,
      family: 0,
      sentinel: { username: "bob", password: "a&+b" },
      nat: { "10.0.0.1:6379": { host: "outside", port: 7001 }, "fd00::1:6379": { host: "::1", port: 7002 } },
      shown: "rediss+sentinel://one:26379,two:26380,[::1]:26379/main/2",
    });
    expect(parseRedisUrl("redis+sentinel://one")).toMatchObject({ name: "mymaster", db: 0, sentinel: {} });
    expect(parseRedisUrl("redis+sentinel://one?sentinelTls=on&ca=/ca.pem")).toMatchObject({
      sentinel: { tls: { ca: "/ca.pem" } },
    });
  });

  it("reads a Cluster, plain or with TLS, whose nodes may be IPv6 addresses", () => {
    expect(parseRedisUrl("redis+cluster://:secret@[::1],two:7001/?tls=on")).toEqual({
      kind: "cluster",
      password: "secret",
      tls: {},
      nodes: [
        { host: "::1", port: 6379 },
        { host: "two", port: 7001 },
      ],
      family: 0,
      nat: {},
      shown: "rediss+cluster://[::1]:6379,two:7001",
    });
    expect(said("rediss+cluster://one,two")).toBe("rediss+cluster://one:6379,two:6379");
  });

  it.each([
    ["", /is empty\. .*redis:\/\//],
    ["cache:6379", /no scheme\. .*redis:\/\/host:6379/],
    ["/run/redis.sock", /no scheme\. .*unix:\/\/\/path/],
    ["redis:cache", /no scheme/],
    ["http://cache:6379", /scheme that Hubbub does not know\. .*rediss\+cluster:\/\//],
    ["'redis://cache'", /begins with a quote/],
    ["redis://", /names no host/],
    ["redis://:secret@", /names no host/],
    ["redis://secret@cache", /user without a password/],
    ["redis://cache:http", /port that is no number/],
    ["redis://ann:secret", /port that is no number/],
    ["redis://cache:0", /port that is no number/],
    ["redis://cache:65536", /port that is no number/],
    ["redis://::1:6379", /IPv6 address without brackets/],
    ["redis://[cache]:6379", /brackets around what is no IPv6/],
    ["redis://ca che", /characters that no host name has/],
    ["redis://cache/first", /database that is no number/],
    ["redis://cache/-1", /database that is no number/],
    ["redis://cache/1?db=2", /names two databases/],
    ["redis://one,two", /several hosts.*redis\+sentinel.*redis\+cluster/],
    ["redis://cache?password=secret", /option that does not exist.*There are: db .*tls .*family/],
    ["redis://cache?db", /option db without a value/],
    ["redis://cache?db=1&db=1", /option db twice/],
    ["redis://cache?tls=yes", /tls neither on nor off/],
    ["rediss://cache?tls=off", /keep one of them/],
    ["redis://cache?ca=/ca.pem", /options for TLS, but no TLS.*rediss/],
    ["rediss://cache?cert=/cert.pem", /needs its key/],
    ["redis://cache?family=5", /neither 4 nor 6/],
    ["unix://run/redis.sock", /absolute path/],
    ["unix://", /names no file/],
    ["unix:///run/redis.sock?ca=/ca.pem", /There are: db /],
    ["redis+cluster://one,two/1", /only database 0/],
    ["redis+cluster://one?db=1", /There are: tls .*nat /],
    ["redis+cluster://one,,two", /names no host/],
    ["redis+cluster://:secret@one,:secret@two", /given once, before the first host/],
    ["redis+cluster://one?nat=10.0.0.1:6379", /nat that is not inside:port=outside:port/],
    ["redis+cluster://one?nat=10.0.0.1=cache", /nat without ports/],
    ["redis+sentinel://one/main/0/1", /too many slashes/],
    ["redis+sentinel://one/my main", /name of the group/],
  ])("tells what is wrong with %s, and the cure", (url, words) => {
    expect(said(url)).toMatch(/^REDIS_URL /);
    expect(said(url)).toMatch(words);
    expect(said(url)).not.toContain("secret");
  });

  it.each(["@", "/", "?", "#"])(
    "recognises an unescaped %s in a password by its effect on the rest, and tells how to write it",
    (character) => {
      expect(said(`redis://:sec${character}ret@cache:6379`)).toMatch(
        /must be escaped\. In them write @ as %40/,
      );
    },
  );

  it("recognises a % that escapes nothing", () => {
    expect(said("redis://:100%@cache")).toMatch(/% as %25/);
    expect(said("redis://:%ff@cache")).toMatch(/% as %25/);
  });

  it("repeats no four characters of a password or user, escaped or not", () => {
    const source = readFileSync(new URL("redisUrl.ts", import.meta.url), "utf8");
    const place = fc.constantFrom<(secret: string) => string>(
      (secret) => `redis://:${secret}@cache:6379/0`,
      (secret) => `rediss://${secret}:x@cache`,
      (secret) => `unix://:${secret}@/run/redis.sock`,
      (secret) => `redis+sentinel://:${secret}@one,two/main`,
      (secret) => `redis+sentinel://one/main?sentinelPassword=${secret}`,
      (secret) => `redis+sentinel://one/main?sentinelUsername=${secret}&db=1`,
      (secret) => `redis+cluster://ann:${secret}@one,two`,
    );
    const secret = fc.oneof(
      fc.string({ unit: "binary", minLength: 4, maxLength: 40 }),
      fc.string({
        unit: fc.constantFrom(
          "@",
          "/",
          "?",
          "#",
          "%",
          ":",
          "&",
          "=",
          "[",
          "]",
          ",",
          "+",
          " ",
          "\\",
          '"',
          "'",
          "a",
          "1",
        ),
        minLength: 4,
        maxLength: 40,
      }),
      fc.string({ unit: "grapheme-ascii", minLength: 8, maxLength: 40 }),
    );
    fc.assert(
      fc.property(place, secret, fc.boolean(), (put, text, escaped) => {
        const words = said(put(escaped ? encodeURIComponent(text) : text));
        const pieces = Array.from({ length: text.length - 3 }, (_, at) => text.slice(at, at + 4));
        expect(pieces.filter((piece) => words.includes(piece) && !source.includes(piece))).toEqual([]);
      }),
      { numRuns: 500 },
    );
  });

  it("reads back every escaped user and password, and the same host", () => {
    const text = fc.string({ unit: "binary", minLength: 1, maxLength: 30 });
    fc.assert(
      fc.property(text, text, (username, password) => {
        const logIn = `${encodeURIComponent(username)}:${encodeURIComponent(password)}`;
        expect(parseRedisUrl(`redis://${logIn}@cache:7000`)).toMatchObject({
          username,
          password,
          nodes: [{ host: "cache", port: 7000 }],
        });
      }),
    );
  });
});
