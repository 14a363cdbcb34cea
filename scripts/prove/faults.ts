import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseSync, visitorKeys } from "oxc-parser";
import { bundleServer } from "../build.ts";
import { root } from "../prepare.mjs";

/**
 * A remedy of the server that is switched off, and the scenario that must then fail. The server's sources do not contain
 * faults: a build for the proof has all of them, and the variable FAULT chooses a replica's.
 */
type Fault = {
  name: string;
  remedy: string;
  scenario: string;
  /**
   * Code by the name of its place in the server: a function, method or constant, or one inside another
   * (`Log.append.listed`). In a function with a body the code runs first; unless it returns, the function goes on. For a
   * constant, or a function that is one expression, it replaces the value.
   */
  instead: Record<string, string>;
};

/** The variable that a replica of the build with faults reads. */
export const FAULT = "HUBBUB_PROVE_FAULT";

export const FAULTS: readonly Fault[] = [
  {
    name: "nonces forgotten",
    remedy: "a retry is recognised by its nonce",
    scenario: "lost-replies",
    instead: { "createKeys.nonce": "`{${prefix}room:${id}}:nonce:${user}:${nonce}:${Math.random()}`" },
  },
  {
    name: "holes left open",
    remedy: "a replica fills holes from the sorted set",
    scenario: "pubsub-kills",
    instead: {
      "Relay.#advance": `if (room.position && !room.healing && heard.seq > room.position.seq) {
        const { seq, date, hash, json } = heard;
        room.position = { ...room.position, seq, date, hash };
        return this.#parts.delivery.message(roomId, json);
      }`,
    },
  },
  {
    name: "heads not compared",
    remedy: "a replica compares its place in each room with the stored one",
    scenario: "pubsub-kills",
    instead: { "Relay.#checkRooms": "return;" },
  },
  {
    name: "missed changes not read",
    remedy: "a replica reads the changes that it missed",
    scenario: "pubsub-kills",
    instead: {
      "Relay.#change": `const missed = this.#rooms.get(change.roomId);
      if (missed?.position && !missed.healing) {
        const span = { after: missed.position.rev, rev: change.rev, revHash: change.hash };
        missed.position = { ...missed.position, rev: change.rev, revHash: change.hash };
        return this.#apply(change.roomId, missed, [change], span);
      }`,
    },
  },
  {
    name: "a deletion keeps the text",
    remedy: "a deletion takes the text out of the row",
    scenario: "killed-replica",
    instead: { asDeleted: "return { ...message, deleted: now };" },
  },
  {
    name: "silence not noticed",
    remedy: "a replica notices that it hears nothing",
    scenario: "deaf-replica",
    instead: { DEAF_MS: "5_000_000" },
  },
  {
    name: "emitted from the send path",
    remedy: "nothing is emitted from the send path",
    scenario: "killed-replica",
    instead: {
      "Relay.constructor": "Object.assign(globalThis, { delivery: parts.delivery });",
      "ChatMessages.send": `if (!("again" in send)) {
        const row = await this.send(user, Object.assign({ again: true }, send));
        (Reflect.get(globalThis, "delivery") as { message: (roomId: string, row: string) => void }).message(send.roomId, row);
        return row;
      }`,
      "Relay.#receive": `const said = readAnnouncement(text);
      if (said && this.#rooms.has(said.roomId)) {
        const own = text.startsWith('{"serverId":"' + this.#parts.config.serverId + '"');
        return own ? undefined : this.#parts.delivery.message(said.roomId, said.json);
      }`,
    },
  },
  {
    name: "strangers may write",
    remedy: "a named room's members alone may write into it",
    scenario: "killed-replica",
    instead: { "Log.append.listed": "false" },
  },
  {
    name: "leases not swept",
    remedy: "leases of dead replicas are swept",
    scenario: "killed-replica",
    instead: { "Presence.#sweep": "return;" },
  },
  {
    name: "ends of sessions not announced",
    remedy: "the end of a session is announced",
    scenario: "logout-storm",
    instead: { "SocketDoor.#order": `if (order === "session.ended") return;` },
  },
  {
    name: "sessions not looked at",
    remedy: "sessions of open connections are looked at regularly",
    scenario: "logout-storm",
    instead: { "Attendance.revalidate": "return;" },
  },
  {
    name: "copies not waited for",
    remedy: "a message is acknowledged once a Redis replica has it (WAIT)",
    scenario: "sentinel-wait",
    instead: { "Log.#copied": "return row;" },
  },
  {
    name: "stops without a word",
    remedy: "a stopping replica says so before it stops",
    scenario: "rolling-deploy",
    instead: { "startServer.ready": "if (draining && !load.isOverloaded) return health.ready();" },
  },
  {
    name: "slow clients kept",
    remedy: "a client that reads nothing is cut",
    scenario: "slow-client",
    instead: { "Delivery.#isSlow": "return false;" },
  },
  {
    name: "removals not looked for",
    remedy: "a message says at which change it was stored",
    scenario: "leaving",
    instead: { "Relay.#advance": "heard.revHash = undefined;" },
  },
  {
    name: "removals not applied",
    remedy: "a replica takes a room from whoever was removed",
    scenario: "leaving",
    instead: { "Delivery.expel": "return false;" },
  },
  {
    name: "disabled accounts kept in rooms",
    remedy: "a disabled account is shut out of each of its rooms, where messages are stored",
    scenario: "moderation",
    instead: { "Members.bar": "return;" },
  },
  {
    name: "files of deleted messages kept",
    remedy: "what takes files from a message notes first that they must be removed",
    scenario: "files",
    instead: { "ChatFiles.withdraw": "return work();" },
  },
  {
    name: "names claimed twice",
    remedy: "a username is claimed once",
    scenario: "races",
    instead: { "Users.#begin.claimed": "await this.#redis.set(this.#keys.username(username), `user:${id}`)" },
  },
];

/** Builds a server with the faults, in the same way as scripts/build.ts. */
export async function bundleWithFaults(folder: string): Promise<void> {
  const source = join(root, "server/src");
  const faulty = withFaults(source);
  await bundleServer(source, folder, [
    {
      name: "faults",
      setup: (build) =>
        build.onLoad({ filter: /\.ts$/ }, ({ path }) => {
          const contents = faulty.get(path);
          return contents === undefined ? undefined : { contents, loader: "ts" };
        }),
    },
  ]);
}

/** The server's files with the faults, by path. Throws unless each place exists exactly once. */
export function withFaults(source: string, faults: readonly Fault[] = FAULTS): Map<string, string> {
  const files = readdirSync(source, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts"))
    .map((file) => join(source, file));
  const parsed = files.map((file) => {
    const text = readFileSync(file, "utf8");
    return { file, text, program: parseSync(file, text).program as unknown as Node };
  });
  const edits = new Map<string, { at: number; text: string }[]>();
  for (const { name, instead } of faults) {
    for (const [place, code] of Object.entries(instead)) {
      const found = parsed.flatMap((one) =>
        find(one.program, place.split(".")).map((node) => ({ ...one, node })),
      );
      const [only] = found;
      if (!only || found.length > 1) throw new Error(`The server has ${found.length} times ${place}`);
      const there = edits.get(only.file) ?? [];
      there.push(
        ...put(only.node, `process.env[${JSON.stringify(FAULT)}] === ${JSON.stringify(name)}`, code),
      );
      edits.set(only.file, there);
    }
  }
  return new Map(
    parsed.flatMap(({ file, text }) => {
      const all = edits.get(file)?.toSorted((a, b) => b.at - a.at);
      return all
        ? [[file, all.reduce((now, { at, text: more }) => now.slice(0, at) + more + now.slice(at), text)]]
        : [];
    }),
  );
}

type Node = { type: string; start: number; end: number } & Record<string, unknown>;

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && "type" in value;
}

function children(node: Node): Node[] {
  return (visitorKeys[node.type] ?? []).flatMap((key) => [node[key]].flat().filter(isNode));
}

/** A named class, function or value. */
function named(node: Node): { name: string; value: Node } | null {
  const called = node["id"] ?? node["key"];
  const value = node.type === "VariableDeclarator" ? node["init"] : (node["value"] ?? node);
  if (!isNode(called) || !isNode(value) || !/^(Function|Class|Method|Property|Variable)/.test(node.type))
    return null;
  return { name: `${called.type === "PrivateIdentifier" ? "#" : ""}${String(called["name"])}`, value };
}

/** All nodes that a path leads to: each name may be anywhere inside the node of the one before it. */
function find(node: Node, [name = "", ...rest]: string[]): Node[] {
  return children(node).flatMap((child) => {
    const here = named(child);
    if (here?.name !== name) return find(child, [name, ...rest]);
    return rest.length === 0 ? [here.value] : find(here.value, rest);
  });
}

/** Inserts the code before a function's body, or in place of a value, for when the fault is on. */
function put(node: Node, isOn: string, code: string): { at: number; text: string }[] {
  const value = isNode(node["body"]) ? node["body"] : node;
  if (/^(FunctionBody|BlockStatement)$/.test(value.type))
    return [{ at: value.start + 1, text: ` if (${isOn}) { ${code} }` }];
  return [
    { at: value.start, text: `(${isOn} ? ${code} : (` },
    { at: value.end, text: "))" },
  ];
}
