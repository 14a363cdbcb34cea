import { existsSync, renameSync, rmSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { pino } from "pino";
import type { Config } from "../server/src/config.ts";
import { createKeys } from "../server/src/keys.ts";
import { isUnused } from "../server/src/store/ids.ts";
import { connectRedis } from "../server/src/store/redis.ts";
import { wordsInUse } from "../server/src/store/redisReach.ts";
import { FIRST_SCHEMA, readSchema } from "../server/src/store/schema.ts";
import { writeArchive, type Counts } from "./archive.ts";
import { readContents } from "./contents.ts";
import { readCommandConfig } from "./dataFolder.ts";
import { orHelp, stop } from "./prepare.mjs";
import { useOwnRedis } from "./redis.ts";

const HELP = `npm run backup -- FILE [--sessions] [--prefix PREFIX]

Writes all that is kept in Redis into FILE, while servers run, and checks it. Redis is that of REDIS_URL, or else the
one that \`npm start\` runs on DATA_DIR (./data), running or not. FILE holds names, password hashes and every message:
nobody but you may read it.

  --sessions  also who is logged in, and the secret that signs their cookies
  --prefix    instead of KEY_PREFIX

\`npm run restore -- FILE\` puts it into an empty Redis. Who is online, counted attempts and locks are left out.`;

/**
 * Writes everything under `config.keyPrefix` into `file`, which appears once it is whole and checked. Throws with exit
 * code 66 if there is nothing: whoever backs up every night must hear that it is the wrong Redis.
 */
export async function backup(config: Config, file: string, options: { sessions: boolean }): Promise<Counts> {
  const redis = await connectRedis(config.redisUrl, "commands", pino({ level: "silent" }));
  try {
    const keys = createKeys(config.keyPrefix);
    const header = {
      schema: (await readSchema(redis, keys)) ?? FIRST_SCHEMA,
      date: new Date().toISOString(),
      prefix: config.keyPrefix,
      sessions: options.sessions,
    };
    const counts = await writeArchive(partOf(file), header, readContents(redis, keys, options));
    // Servers that run on a Redis which has lost everything put a few keys back.
    if (counts.messages === 0 && (await isUnused(redis, keys)))
      throw stop(
        `No backup was made: there is no account and no message under ${config.keyPrefix === "" ? "an empty KEY_PREFIX" : `KEY_PREFIX=${config.keyPrefix}`} in this Redis. Is it the right one, and the right database?`,
        66,
      );
    // Another may have been made under this name meanwhile.
    demandFree(file);
    renameSync(partOf(file), file);
    return counts;
  } catch (error) {
    rmSync(partOf(file), { force: true });
    throw error;
  } finally {
    redis.disconnect();
  }
}

function partOf(file: string): string {
  return `${file}.${process.pid}.part`;
}

function demandFree(file: string): void {
  if (existsSync(file))
    throw stop(`${file} is there already, and no backup is written over another. Choose another name.`, 73);
}

/** `npm run backup -- FILE` */
export async function main(args: string[]): Promise<number> {
  const read = readArguments(args, "sessions", HELP);
  if (read === "help") {
    console.log(HELP);
    return 0;
  }
  const { file, prefix, flagged: sessions } = read;
  demandFree(file);
  const began = performance.now();
  const own = await useOwnRedis({ mayBeNew: false });
  const abandon = () => {
    rmSync(partOf(file), { force: true });
    process.exit(130);
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, abandon);
  try {
    const config = readCommandConfig(process.env, own.url, prefix);
    const counts = await backup(config, file, { sessions });
    console.log(
      `Backed up ${describe(counts)} into ${file} in ${((performance.now() - began) / 1_000).toFixed(1)} s.`,
    );
    return 0;
  } catch (error) {
    if (error instanceof Error && "exitCode" in error) throw error;
    throw stop(`No backup was made. ${wordsInUse(error)}`, 69);
  } finally {
    await own.close();
  }
}

/** "37 messages in 4 rooms, 49 keys (30 string, ...)" */
export function describe({ messages, rooms, keys }: Counts): string {
  const number = (count: number) => count.toLocaleString("en");
  const all = Object.entries(keys).toSorted(([one], [other]) => one.localeCompare(other));
  const total = all.reduce((sum, [, count]) => sum + count, 0);
  const byType = all.map(([type, count]) => `${number(count)} ${type}`).join(", ");
  return `${number(messages)} messages in ${number(rooms)} rooms, ${number(total)} keys in all (${byType})`;
}

/** Reads one file's name, `--prefix` and a command's own flag. Throws with exit code 64 and the help at anything else. */
export function readArguments(
  args: string[],
  flag: string,
  help: string,
): { file: string; prefix: string | undefined; flagged: boolean } | "help" {
  return orHelp(help, () => {
    const { values, positionals } = parseArgs({
      args,
      options: {
        [flag]: { type: "boolean" },
        prefix: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
      allowPositionals: true,
    });
    if (values["help"]) return "help";
    const [file, ...more] = positionals;
    if (file === undefined || more.length > 0) throw new Error("Name one file.");
    return {
      file: resolve(process.env["INIT_CWD"] ?? ".", file),
      prefix: values["prefix"],
      flagged: values[flag] === true,
    };
  });
}
