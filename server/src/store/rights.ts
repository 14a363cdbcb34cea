import { readFileSync } from "node:fs";
import type { Redis } from "ioredis";
import type { Config } from "../config.ts";
import { redisCode } from "../errors.ts";
import { patternsOf, type Keys } from "../keys.ts";
import type { Finding } from "./checks.ts";
import { primariesOf, type RedisClient } from "./redis.ts";

/**
 * Every command that a server runs, with as many arguments as Redis wants: with fewer, a question about it can end
 * Redis. `KEY` stands for a key, `CHANNEL` for a channel. INFO, CLUSTER and READONLY may be missing.
 */
export const COMMANDS = `
PING;TIME;SCAN 0;MULTI;EXEC;EVAL x 0;EVALSHA x 0
PUBLISH CHANNEL x;SUBSCRIBE CHANNEL;UNSUBSCRIBE CHANNEL;SPUBLISH CHANNEL x;SSUBSCRIBE CHANNEL;SUNSUBSCRIBE CHANNEL
GET KEY;SET KEY x;SETNX KEY x;DEL KEY;EXISTS KEY;INCR KEY;INCRBY KEY 1;EXPIRE KEY 1;PEXPIRE KEY 1;PEXPIREAT KEY 1;PTTL KEY
HGET KEY x;HMGET KEY x;HGETALL KEY;HKEYS KEY;HVALS KEY;HLEN KEY;HEXISTS KEY x
HSET KEY x x;HSETNX KEY x x;HDEL KEY x;HINCRBY KEY x 1
SADD KEY x;SREM KEY x;SCARD KEY;SMEMBERS KEY;SISMEMBER KEY x;SMISMEMBER KEY x;SSCAN KEY 0
ZADD KEY 1 x;ZREM KEY x;ZREMRANGEBYSCORE KEY 0 0;ZREMRANGEBYRANK KEY 0 0
ZCARD KEY;ZCOUNT KEY 0 0;ZSCORE KEY x;ZINTERCARD 1 KEY
ZRANGE KEY 0 0;ZREVRANGE KEY 0 0;ZRANGEBYSCORE KEY 0 0;ZREVRANGEBYSCORE KEY 0 0
XADD KEY * x x;XDEL KEY 0-1;XREVRANGE KEY + -
`
  .trim()
  .split(/[;\n]/)
  .map((line) => line.split(" "));

const LUA = readFileSync(new URL("rights.lua", import.meta.url), "utf8");

/** How many names one sentence has. */
const NAMED = 8;

/**
 * Finds the keys, channels and commands that Redis keeps from its user, and that a server needs. Touches nothing, and
 * needs no right besides. A Redis that is away, or refuses for another reason, has no lack that could be told here.
 */
export async function checkRights(client: RedisClient, config: Config, keys: Keys): Promise<Finding[]> {
  const found = await Promise.all(primariesOf(client).map((node) => lacksOf(node, config, keys)));
  // The nodes of a Cluster have their users each, and mostly the same.
  const lacks = [...new Set(found.flat())];
  if (lacks.length === 0) return [];
  const more = lacks.length > NAMED ? ` and ${lacks.length - NAMED} more` : "";
  return [
    {
      level: "refuse",
      about: "rights",
      says: `the user in REDIS_URL may not use ${lacks.slice(0, NAMED).join(", ")}${more}`,
      cure: `give it these rights with ACL SETUSER and ${lacks.slice(0, NAMED).join(" ")}${more && " ..."}, or all those of docs/redis.acl`,
    },
  ];
}

/** What is missing, as ACL SETUSER gives it: `~settings`, `&MESSAGES`, `+hset`. */
async function lacksOf(node: Redis, config: Config, keys: Keys): Promise<string[]> {
  const names = namesOf(config, keys);
  const commands = config.waitReplicas > 0 ? [...COMMANDS, ["WAIT", "0", "0"]] : COMMANDS;
  try {
    const may = await ask(
      node,
      names.flatMap(({ ways }) => ways),
    );
    const lacking = names.filter(({ ways }) => !ways.some((way) => may.has(way)));
    // Where no name may be used, Redis does not tell whether the command may.
    const usable = (sign: string) =>
      names.find((each) => each.right.startsWith(sign) && !lacking.includes(each))?.name;
    const [key, channel] = [usable("~"), usable("&") ?? keys.channel];
    const filled = commands
      .filter((command) => key !== undefined || !command.includes("KEY"))
      .map((command) =>
        command.map((word) => (word === "KEY" ? (key ?? "") : word === "CHANNEL" ? channel : word)),
      );
    const runs = await ask(node, filled);
    return [
      ...lacking.map(({ right }) => right),
      ...filled.filter((command) => !runs.has(command)).map(([name = ""]) => `+${name.toLowerCase()}`),
    ];
  } catch (error) {
    const code = redisCode(error);
    if (code === undefined) throw error;
    return code === "NOPERM" ? ["+eval"] : [];
  }
}

type Name = { right: string; name: string; ways: string[][] };

/** Every key and channel, and the commands of which one at least may be run with it if the right is there. */
function namesOf(config: Config, keys: Keys): Name[] {
  const found: Name[] = [];
  for (const [pattern, samples] of patternsOf(keys))
    for (const name of samples) {
      if (name === keys.sessionSecret && config.sessionSecrets.length > 0) continue;
      // Redis takes it that a script reads its keys and writes to them.
      const ways = [["EVAL", "return 1", "1", name]];
      // Only `npm run seed` writes these.
      if (name === keys.demo || name === keys.seedLock) ways.push(["GET", name], ["EXISTS", name]);
      found.push({ right: `~${pattern}`, name, ways });
    }
  const channels = [[keys.channel, keys.channel]];
  if (config.relayChannel === "rooms") channels.push([`${keys.channel}:*`, keys.roomChannel("1")]);
  channels.push([`${keys.adapterChannels}#*`, `${keys.adapterChannels}#/#`]);
  for (const [pattern = "", name = ""] of channels)
    found.push({
      right: `&${pattern}`,
      name,
      ways: [
        ["SUBSCRIBE", name],
        ["SSUBSCRIBE", name],
        ["PUBLISH", name, "x"],
      ],
    });
  return found;
}

/** Those of these commands that the user may run. */
async function ask(node: Redis, commands: string[][]): Promise<Set<string[]>> {
  const refused = new Set((await node.eval(LUA, 0, JSON.stringify(commands))) as number[]);
  return new Set(commands.filter((_, at) => !refused.has(at + 1)));
}
