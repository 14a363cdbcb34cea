import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";
import { pino } from "pino";
import type { Admin, Administrator, RoomFacts } from "../server/src/chat/admin.ts";
import { Chat } from "../server/src/chat/chat.ts";
import { Images } from "../server/src/chat/images.ts";
import { Users } from "../server/src/chat/users.ts";
import { addressOf, type Config } from "../server/src/config.ts";
import { roomName } from "../server/src/doors/fields.ts";
import { ChatError, wordsOf } from "../server/src/errors.ts";
import { createKeys } from "../server/src/keys.ts";
import { Presence } from "../server/src/live/presence.ts";
import { createMetrics } from "../server/src/metrics.ts";
import {
  FAREWELLS,
  LIMITS,
  SIGN_UP_MODES,
  type Account,
  type Farewell,
  type UserId,
} from "../server/src/protocol.ts";
import { Audit } from "../server/src/store/audit.ts";
import { createBlobs } from "../server/src/store/blobs.ts";
import { Files } from "../server/src/store/files.ts";
import { raiseCounters } from "../server/src/store/ids.ts";
import { Invites } from "../server/src/store/invites.ts";
import { Log } from "../server/src/store/log.ts";
import { Members } from "../server/src/store/members.ts";
import { connectRedis } from "../server/src/store/redis.ts";
import { Reports } from "../server/src/store/reports.ts";
import { Rooms } from "../server/src/store/rooms.ts";
import { checkSchema } from "../server/src/store/schema.ts";
import { SessionList } from "../server/src/store/sessions.ts";
import { Settings } from "../server/src/store/settings.ts";
import { Staff } from "../server/src/store/staff.ts";
import { readCommandConfig } from "./dataFolder.ts";
import { orHelp, stop } from "./prepare.mjs";
import { findOwnRedis } from "./redis.ts";
import { removeDemo } from "./unseed.ts";

const HELP = `npm run admin -- COMMAND [--json] [--yes]

What the server's admins do in the app, from a shell, while servers run or not. Redis is that of REDIS_URL, or the one
that \`npm start\` runs on DATA_DIR (./data).

  users                     lists all accounts
  user NAME                 shows one
  disable NAME              keeps it from everything: ends its sessions, lets nobody log in, stores nothing of it
  enable NAME               lets it in again
  delete NAME               deletes it; its messages stay, or go with --messages delete; its name is given to nobody
  reset-password NAME       makes a link with which its owner chooses a new password, once, within 24 hours
  end-sessions NAME         logs it out everywhere
  make-owner NAME           makes it an owner of the server
  room list                 lists all rooms but direct ones
  room show ROOM            shows one, by its id or else its name
  room archive ROOM         closes it for writing; unarchive opens it again
  room rename ROOM NAME     gives it another name
  room owner ROOM NAME      makes somebody an owner of it, and a member
  settings [signup MODE]    shows or sets who may sign up: open, invite or closed
  demo remove               takes all demo data away
  stats                     counts

  --json      answers in JSON
  --yes       does not ask before something is deleted
  --messages  keep (as without it) or delete

Ends with 0, with 1 if it was refused or there is no such account or room, with 64 for a wrong command, with 69 without Redis.`;

/** The shell may do what an owner may. */
const HOUSE: Administrator = { user: { id: "", username: "shell" }, role: "owner" };

type Asked = { command: string; names: string[]; json: boolean; yes: boolean; messages: Farewell };
type Store = Awaited<ReturnType<typeof open>>;
/** What is answered, and in words. */
type Outcome = { value: unknown; words: string };

/** How many names follow each command, at least and at most. */
const COMMANDS: Record<string, [least: number, most: number]> = {
  users: [0, 0],
  user: [1, 1],
  disable: [1, 1],
  enable: [1, 1],
  delete: [1, 1],
  "reset-password": [1, 1],
  "end-sessions": [1, 1],
  "make-owner": [1, 1],
  room: [1, 3],
  settings: [0, 2],
  demo: [1, 1],
  stats: [0, 0],
};

/** How many words follow each of `room`. */
const OF_ROOMS: Record<string, number> = { list: 0, show: 1, archive: 1, unarchive: 1, rename: 2, owner: 2 };

/** `npm run admin -- COMMAND` */
export async function main(args: string[], env: NodeJS.ProcessEnv = process.env): Promise<number> {
  const asked = readArguments(args);
  if (asked === "help") {
    console.log(HELP);
    return 0;
  }
  const redisUrl = await findOwnRedis(env);
  let store: Store;
  try {
    store = await open(readCommandConfig(env, redisUrl));
  } catch (error) {
    throw stop(wordsOf(error), 69);
  }
  try {
    const { value, words } = await run(store, asked);
    await Promise.all(store.told);
    console.log(asked.json ? JSON.stringify(value, null, 2) : words);
    return 0;
  } catch (error) {
    if (!(error instanceof ChatError)) throw error;
    throw stop(error.message, error.code === "unavailable" ? 69 : 1);
  } finally {
    store.redis.disconnect();
  }
}

function readArguments(args: string[]): Asked | "help" {
  const wrong = (why: string) => stop(`${why}\n\n${HELP}`, 64);
  const options = {
    json: { type: "boolean" },
    yes: { type: "boolean", short: "y" },
    messages: { type: "string" },
    help: { type: "boolean", short: "h" },
  } as const;
  const { values, positionals } = orHelp(HELP, () => parseArgs({ args, options, allowPositionals: true }));
  if (values.help) return "help";
  const [command = "", ...names] = positionals;
  const count = Object.hasOwn(COMMANDS, command) ? COMMANDS[command] : undefined;
  if (!count) throw wrong(command === "" ? "Say which command." : `There is no command ${command}.`);
  if (names.length < count[0] || names.length > count[1])
    throw wrong(
      names.length < count[0] ? `${command} needs a name.` : `${command} takes no ${names.at(-1)}.`,
    );
  if (command === "demo" && names[0] !== "remove") throw wrong("demo takes one word: remove.");
  if (command === "settings" && names.length > 0) {
    if (names[0] !== "signup") throw wrong(`There is no setting ${names[0]}. There is signup.`);
    if (names.length === 2 && !SIGN_UP_MODES.some((mode) => mode === names[1]))
      throw wrong(`signup is one of ${SIGN_UP_MODES.join(", ")}.`);
  }
  if (command === "room") {
    const [what = "", ...rest] = names;
    const most = Object.hasOwn(OF_ROOMS, what) ? OF_ROOMS[what] : undefined;
    if (most === undefined) throw wrong(`room takes ${Object.keys(OF_ROOMS).join(", ")}.`);
    if (rest.length !== most)
      throw wrong(
        rest.length < most ? `room ${what} needs a name more.` : `room ${what} takes no ${rest.at(-1)}.`,
      );
  }
  const messages = FAREWELLS.find((one) => one === (values.messages ?? "keep"));
  if (messages === undefined) throw wrong("--messages takes keep or delete.");
  return { command, names, json: values.json ?? false, yes: values.yes ?? false, messages };
}

async function open(config: Config) {
  const log = pino({ level: "silent" });
  const redis = await connectRedis(config.redisUrl, "commands", log);
  try {
    const keys = createKeys(config.keyPrefix);
    const schema = await checkSchema(redis, keys);
    await raiseCounters(redis, keys);
    const users = new Users(redis, keys, config);
    const members = new Members(redis, keys, config, schema);
    const messages = new Log(redis, keys, config, schema);
    const audit = new Audit(redis, keys);
    const metrics = createMetrics();
    const told: Promise<unknown>[] = [];
    const tell = async (type: "account" | "room", data: object) => {
      await redis.publish(keys.channel, JSON.stringify({ serverId: config.serverId, type, data }));
    };
    const nothing = () => Promise.resolve();
    // This shell may not know the store, or reach another one: a server removes what is due.
    const remove = (id: string) => files.noteDue([id], Date.now()).then(() => false);
    const files = new Files(redis, keys);
    const blobs = createBlobs(config.files.address, config.files.spool);
    const chat = new Chat({
      config,
      users,
      members,
      messages,
      audit,
      metrics,
      log,
      staff: new Staff(redis, keys),
      settings: new Settings(redis, keys, config),
      sessions: new SessionList(redis, keys, config),
      rooms: new Rooms(redis, keys, members),
      files,
      blobs,
      collector: { remove, noteUsed: nothing },
      images: new Images(config.files),
      invites: new Invites(redis, keys),
      reports: new Reports(redis, keys),
      // Not started: nobody is connected here.
      presence: new Presence({
        redis,
        keys,
        serverId: config.serverId,
        metrics,
        log,
        changed: nothing,
        looked: nothing,
      }),
      announce: {
        showRoom: (ids) => void told.push(...ids.map((userId) => tell("account", { userId }))),
        readRoom: () => undefined,
        changeRoom: ({ roomId }) => void told.push(tell("room", { roomId })),
      },
      changed: (userId: UserId) => tell("account", { userId }),
    });
    return {
      config,
      redis,
      keys,
      users,
      members,
      files,
      log: messages,
      audit,
      accounts: chat.accounts,
      admin: chat.admin,
      told,
    };
  } catch (error) {
    redis.disconnect();
    throw error;
  }
}

async function run(store: Store, { command, names, yes, messages }: Asked): Promise<Outcome> {
  const { config, users, accounts, admin } = store;
  const [name = "", value = ""] = names;
  switch (command) {
    case "users": {
      const list = await everybody(admin);
      return { value: list, words: list.map(lineOf).join("\n") || "Nobody has an account." };
    }
    case "stats": {
      const stats = await admin.stats();
      const words = Object.entries(stats).map(
        ([what, count]) => `${what.padEnd(9)} ${count.toLocaleString("en")}`,
      );
      return { value: stats, words: words.join("\n") };
    }
    case "settings": {
      const mode = SIGN_UP_MODES.find((one) => one === value);
      const settings = await admin.changeSettings(HOUSE, mode === undefined ? {} : { signup: mode });
      return { value: settings, words: `signup    ${settings.signup}` };
    }
    case "room":
      return runOnRoom(store, names);
    case "demo": {
      await demandYes(yes, "Delete all demo people, their rooms and what they said?");
      const removed = await removeDemo(store);
      await store.audit.note({ by: "", what: "demo", detail: "removed" });
      const { people, rooms, messages: said } = removed;
      return { value: removed, words: `Removed ${people} people, ${rooms} rooms and ${said} messages.` };
    }
    default:
      break;
  }
  const id = await idOf(store, name);
  switch (command) {
    case "delete": {
      const what = messages === "delete" ? "and all that they have said" : "and keep their messages";
      await demandYes(yes, `Delete ${name}'s account for good, ${what}?`);
      const isDeleted = (await users.facts(id)) === undefined;
      const { done } = isDeleted
        ? await accounts.delete(id, messages)
        : await admin.delete(HOUSE, id, messages);
      const deleted = await done;
      return { value: { id, messages: deleted }, words: `Deleted ${name}, and ${deleted} messages.` };
    }
    case "reset-password": {
      const code = await admin.newReset(HOUSE, id);
      const url = `${config.publicOrigins[0] ?? addressOf(config.host, config.port)}/#/reset/${code}`;
      return { value: { url }, words: `${url}\nWorks once, within 24 hours.` };
    }
    case "end-sessions": {
      const ended = await admin.endSessions(HOUSE, id);
      return { value: { id, ended }, words: `Ended ${ended} sessions of ${name}.` };
    }
    case "disable":
    case "enable":
      return described(await admin.change(HOUSE, id, { disabled: command === "disable" }));
    case "make-owner":
      return described(await admin.change(HOUSE, id, { role: "owner" }));
    default:
      return described(await admin.show(id));
  }
}

async function runOnRoom(store: Store, [what = "show", room = "", name = ""]: string[]): Promise<Outcome> {
  const { admin } = store;
  switch (what) {
    case "list": {
      const all: RoomFacts[] = [];
      for await (const one of admin.allRooms()) all.push(one);
      return { value: all, words: all.map(lineOfRoom).join("\n") };
    }
    case "archive":
    case "unarchive":
      return describedRoom(await admin.changeRoom(HOUSE, room, { archived: what === "archive" }));
    case "rename": {
      const { data, error } = roomName.safeParse(name);
      if (data === undefined) throw stop(`This is no name of a room: ${error?.issues[0]?.message}.`, 1);
      return describedRoom(await admin.changeRoom(HOUSE, room, { name: data }));
    }
    case "owner":
      return describedRoom(await admin.giveRoom(HOUSE, room, await idOf(store, name)));
    default:
      return describedRoom(await admin.showRoom(room));
  }
}

function describedRoom(room: RoomFacts): Outcome {
  return { value: room, words: lineOfRoom(room) };
}

function lineOfRoom({ id, kind, name, members, messages, owners, topic, slow, archived }: RoomFacts): string {
  const facts = [
    kind,
    `${members} members`,
    `${messages} messages`,
    ...(owners.length > 0 ? [`owned by ${owners.map(({ username }) => username).join(", ")}`] : []),
    ...(archived === undefined ? [] : [`archived since ${dayOf(archived)}`]),
    ...(slow === undefined ? [] : [`slow mode of ${slow} s`]),
    ...(topic === undefined ? [] : [`topic: ${topic}`]),
  ];
  return `${id.padStart(6)}  ${name.padEnd(20)} ${facts.join(", ")}`;
}

/** Asks in a terminal. Throws a refusal without an answer, and without a terminal. */
async function demandYes(yes: boolean, question: string): Promise<void> {
  if (yes) return;
  if (!process.stdin.isTTY) throw stop(`${question} Nobody can answer here: say --yes.`, 1);
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(`${question} [y/N] `).finally(() => terminal.close());
  if (!/^y(es)?$/i.test(answer.trim())) throw stop("Nothing was done.", 1);
}

async function everybody(admin: Admin): Promise<Account[]> {
  const all: Account[] = [];
  for (let page = await admin.list(0, LIMITS.page); page.length > 0;) {
    all.push(...page);
    page = await admin.list(Number(page.at(-1)?.id ?? 0), LIMITS.page);
  }
  return all;
}

/** The account of this name. Throws a refusal if there is none; deleted ones have their name still. */
async function idOf({ redis, keys }: Store, name: string): Promise<UserId> {
  const id = (await redis.get(keys.username(name)))?.replace(/^user:/, "") ?? "";
  const username = id && (await redis.hget(keys.user(id), "username"));
  if (!username || username.toLowerCase() !== name.toLowerCase()) throw stop(`Nobody is called ${name}.`, 1);
  return id;
}

function described(account: Account): Outcome {
  const { sessions } = account;
  const words = sessions === undefined ? lineOf(account) : `${lineOf(account)}, ${sessions} sessions`;
  return { value: account, words };
}

function lineOf({ id, username, displayName, role, created, disabled, demo, online }: Account): string {
  const facts = [
    ...(displayName === undefined ? [] : [`shown as ${displayName}`]),
    ...(role === "user" ? [] : [role]),
    ...(online ? ["online"] : []),
    ...(disabled === undefined ? [] : [`disabled since ${dayOf(disabled)}`]),
    ...(demo ? ["demo"] : []),
    `since ${dayOf(created)}`,
  ];
  return `${id.padStart(6)}  ${username.padEnd(20)} ${facts.join(", ")}`;
}

function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}
