import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bundleServer } from "../build.ts";
import { root } from "../prepare.mjs";

type Edit = { file: string; from: string; to: string };

/** One remedy switched off in the server's sources, and the scenario that must then turn red. */
export type Mutation = { remedy: string; scenario: string; edits: Edit[] };

const SOURCE = join(root, "server/src");

export const MUTATIONS: readonly Mutation[] = [
  {
    remedy: "a retry is recognised by its nonce",
    scenario: "lost-replies",
    edits: [{ file: "store/append.lua", from: "if sent then", to: "if false then" }],
  },
  {
    remedy: "a replica fills holes from the sorted set",
    scenario: "pubsub-kills",
    edits: [
      {
        file: "live/relay.ts",
        from: "    if (heard.seq === room.head.seq + 1 && heard.hash ===",
        to: "    if (heard.seq > room.head.seq || heard.hash ===",
      },
    ],
  },
  {
    remedy: "a replica compares its place in each room with the stored one",
    scenario: "pubsub-kills",
    edits: [
      { file: "live/relay.ts", from: "  #checkAll(): void {", to: "  #checkAll(): void {\n    return;" },
    ],
  },
  {
    remedy: "a replica notices that it hears nothing",
    scenario: "deaf-replica",
    edits: [{ file: "live/relay.ts", from: "const DEAF_MS = 5_000;", to: "const DEAF_MS = 5_000_000;" }],
  },
  {
    remedy: "nothing is emitted from the send path",
    scenario: "killed-replica",
    edits: [
      {
        file: "server.ts",
        from: "    const chat = new Chat({ users, rooms, messages, presence, announce: door.announce, metrics });",
        to: `    const chat = new Chat({ users, rooms, messages, presence, announce: door.announce, metrics });
    const send = chat.sendMessage.bind(chat);
    chat.sendMessage = async (...given) => {
      const message = await send(...given);
      delivery.message(given[1].roomId, message);
      return message;
    };`,
      },
      {
        file: "live/relay.ts",
        from: "    if (room) this.#advance(",
        to: `    const own = text.startsWith('{"serverId":"' + this.#parts.config.serverId + '"');
    if (room && !own) return this.#parts.deliver(roomId, json);
    if (room && !own) this.#advance(`,
      },
    ],
  },
  {
    remedy: "a named room's members alone may write into it",
    scenario: "killed-replica",
    edits: [{ file: "store/append.lua", from: "if ARGV[7] == '1' and", to: "if false and" }],
  },
  {
    remedy: "leases of dead replicas are swept",
    scenario: "killed-replica",
    edits: [
      {
        file: "live/presence.ts",
        from: "  async #sweep(): Promise<void> {",
        to: "  async #sweep(): Promise<void> {\n    return;",
      },
    ],
  },
  {
    remedy: "the end of a session is announced",
    scenario: "logout-storm",
    edits: [
      {
        file: "doors/socket.ts",
        from: `endSession: (sid) => this.#order("session.ended", sid),`,
        to: "endSession: () => undefined,",
      },
    ],
  },
  {
    remedy: "sessions of open connections are looked at regularly",
    scenario: "logout-storm",
    edits: [
      {
        file: "doors/socket.ts",
        from: "  async #revalidate(chat: Chat): Promise<void> {",
        to: "  async #revalidate(chat: Chat): Promise<void> {\n    return;",
      },
    ],
  },
  {
    remedy: "a message is acknowledged once a Redis replica has it (WAIT)",
    scenario: "sentinel-wait",
    edits: [{ file: "store/log.ts", from: "if (this.#copies.count > 0) await", to: "if (false) await" }],
  },
  {
    remedy: "a stopping replica says so before it stops",
    scenario: "rolling-deploy",
    edits: [{ file: "server.ts", from: "      draining = true;", to: "" }],
  },
  {
    remedy: "a client that reads nothing is cut",
    scenario: "slow-client",
    edits: [
      { file: "live/delivery.ts", from: "if (this.#isSlow(connection)) slow.push(connection);", to: "" },
    ],
  },
  {
    remedy: "a username is claimed once",
    scenario: "races",
    edits: [
      {
        file: "chat/users.ts",
        from: 'this.#redis.set(this.#keys.username(username), `user:${id}`, "NX")',
        to: "this.#redis.set(this.#keys.username(username), `user:${id}`)",
      },
    ],
  },
];

/** The file with its edit made. Throws unless the text to replace is there exactly once. */
export function mutate({ file, from, to }: Edit): string {
  const text = readFileSync(join(SOURCE, file), "utf8");
  const parts = text.split(from);
  if (parts.length !== 2) throw new Error(`server/src/${file} has ${parts.length - 1} times: ${from.trim()}`);
  return parts.join(to);
}

/** Builds a server with this remedy switched off into `folder`, in the same way as scripts/build.ts. */
export async function buildMutant({ edits }: Pick<Mutation, "edits">, folder: string): Promise<void> {
  const source = join(folder, "src");
  rmSync(folder, { recursive: true, force: true });
  cpSync(SOURCE, source, { recursive: true });
  for (const edit of edits) writeFileSync(join(source, edit.file), mutate(edit));
  await bundleServer(source, folder);
}
