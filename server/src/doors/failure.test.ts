import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { Redis, ReplyError } from "ioredis";
import { pino } from "pino";
import { describe, expect, it, onTestFinished } from "vitest";
import { z } from "zod";
import { ChatError, noteUnanswered, redisCode } from "../errors.ts";
import { createMetrics } from "../metrics.ts";
import { createSecurity } from "../security.ts";
import { testRedisUrl } from "../testing.ts";
import { toFailure } from "./failure.ts";

const log = pino({ level: "silent" });
const parts = { log, security: createSecurity(createMetrics(), log) };
const codeOf = (error: unknown) => toFailure(error, parts, "request").code;

function thrown(doing: () => unknown): unknown {
  try {
    doing();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

const refused = (message: string): Error => new (ReplyError as new (text: string) => Error)(message);
function lost(message: string): Error {
  const error = new Error(message);
  noteUnanswered(error);
  return error;
}

describe("a temporary refusal by Redis is `unavailable`:", () => {
  it.each([
    "LOADING Redis is loading the dataset in memory",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY You can't write against a read only replica.",
    "MISCONF Redis is configured to save RDB snapshots",
    "NOREPLICAS Not enough good replicas to write.",
    "MASTERDOWN Link with MASTER is down",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "MOVED 3999 127.0.0.1:6381",
    "ASK 3999 127.0.0.1:6381",
    "BUSY Redis is busy running a script.",
    "NOPERM this user has no permissions to run the 'zadd' command",
    "ERR The user executing the script is lacking the permissions for the command",
    "ERR ACL failure in script: No permissions to access a key",
  ])("%s", (message) => {
    expect(codeOf(refused(message))).toBe("unavailable");
  });

  it("a transaction that was refused for this reason is `unavailable`", () => {
    const discarded = Object.assign(refused("EXECABORT Transaction discarded because of previous errors."), {
      previousErrors: [refused("OOM command not allowed")],
    });
    expect(codeOf(discarded)).toBe("unavailable");
  });

  it("a command without an answer is `unavailable`, whatever the error's words", () => {
    for (const words of ["Command timed out", "Connection is closed.", "in words that nobody has seen yet"])
      expect(codeOf(lost(words))).toBe("unavailable");
  });
});

describe("what a script may not do is `unavailable`, in the words of this machine's Redis:", () => {
  it.each([
    ["run a command", "-set", "return redis.call('SET', 'key', 'x')"],
    ["access a key", "resetkeys ~other", "return redis.call('GET', 'key')"],
    ["publish to a channel", "resetchannels", "return redis.call('PUBLISH', 'channel', 'x')"],
  ])("%s", async (_, rights, script) => {
    const user = `test-${randomBytes(6).toString("hex")}`;
    const admin = new Redis(testRedisUrl());
    await admin.call("ACL", "SETUSER", user, "on", ">word", "~*", "&*", "+@all", ...rights.split(" "));
    const redis = admin.duplicate({ username: user, password: "word" });
    onTestFinished(async () => {
      redis.disconnect();
      await admin.call("ACL", "DELUSER", user);
      admin.disconnect();
    });
    const error: unknown = await redis.eval(script, 0).catch((refusal: unknown) => refusal);
    expect(redisCode(error)).toBe("NOPERM");
    expect(codeOf(error)).toBe("unavailable");
  });
});

describe("an error of the caller has its own code:", () => {
  it("a ChatError, a schema's error and a body parser's error keep their codes", () => {
    expect(codeOf(new ChatError("taken", "Taken."))).toBe("taken");
    expect(codeOf(thrown(() => z.string().parse(1)))).toBe("invalid");
    expect(codeOf(thrown(() => z.string().max(1).parse("long")))).toBe("too_large");
    expect(codeOf(Object.assign(new Error("request entity too large"), { status: 413 }))).toBe("too_large");
  });
});

it("an exhausted limit of open files is `unavailable`", () => {
  const error = Object.assign(new Error("EMFILE: too many open files, open 'index.html'"), {
    code: "EMFILE",
  });
  expect(codeOf(error)).toBe("unavailable");
});

describe("any other error is `internal`, whatever its words:", () => {
  const words = [
    "ENOENT",
    "Cluster",
    "a Cluster of grapes",
    "Command timed out",
    "Connection is closed.",
    "OOM command not allowed",
    "READONLY",
    "write EPIPE",
    "read ECONNRESET",
  ];
  it.each(words)("%s", (message) => {
    for (const error of [
      new Error(message),
      new TypeError(message),
      Object.assign(new Error(message), { code: 1 }),
    ])
      expect(codeOf(error)).toBe("internal");
    expect(codeOf(refused(`ERR ${message}`))).toBe("internal");
    expect(codeOf(message)).toBe("internal");
  });

  it("a missing file is `internal`", () => {
    expect(codeOf(thrown(() => readFileSync("/nowhere/Cluster")))).toBe("internal");
  });

  it("a permanent refusal by Redis is `internal`", () => {
    for (const message of ["WRONGTYPE Operation against a key", "LOADINGX", ""])
      expect(codeOf(refused(message))).toBe("internal");
  });
});
