import { hotRoom, onReplicas, readPages, towns, crowd, order, type HotOptions } from "./workloads.ts";
import type { LoadResult } from "./generator.ts";
import { connect, judge, load, quiet, record, stage, type Run } from "./run.ts";
import { cpuNs, rss } from "./system.ts";
import { TECHNIQUES, type TechniqueName } from "./techniques.ts";

/** Each technique, and each piece of advice that is often heard, on and off. */

/** Enough that a difference can be told from chance. */
const TURNS = 5;
const techniques = Object.keys(TECHNIQUES) as TechniqueName[];

/** All variants have their turn, one after the other, again and again, so that all see the same weather. */
async function inTurns(turns: number, variants: (() => Promise<Run[]>)[]): Promise<Run[]> {
  const runs: Run[] = [];
  for (let turn = 0; turn < turns; turn += 1) for (const variant of variants) runs.push(...(await variant()));
  return runs;
}

/** Hubbub's hot room: as it is, with other windows of collecting, and with each technique taken out. */
export function hotAblation(): Promise<Run[]> {
  const variants: HotOptions[] = [
    {},
    ...["0", "20"].map((window) => ({ env: { BATCH_WINDOW: window } })),
    ...techniques.map((without) => ({ without })),
  ];
  const given = { seconds: 3, label: "ablation" };
  return inTurns(
    TURNS,
    variants.map((variant) => () => hotRoom("hubbub", [20, 400], { ...variant, ...given })),
  );
}

/** `GET messages`: over connections that are kept, over a new one for each, and without gathered writes to Redis. */
export function readingAblation(): Promise<Run[]> {
  const variants = [{}, { connections: "new" }, { without: "gathered Redis writes" }] as const;
  const label = "ablation reading";
  return inTurns(
    TURNS,
    variants.map((variant) => async () => [await readPages("hubbub", { ...variant, label })]),
  );
}

/** Four replicas and rooms of two: a channel for each room, and one for all. */
export function channelAblation(): Promise<Run[]> {
  const variants: Record<string, string>[] = [{}, { RELAY_CHANNEL: "single" }];
  return inTurns(
    TURNS,
    variants.map((env) => async () => [await onReplicas(4, env, "ablation channels")]),
  );
}

/** A load's figures, and the bytes of memory that a connection takes once it was used. */
export type DeflateResult = LoadResult & { connectionBytes: number };

const DEFLATE_MEMBERS = 200;
const DEFLATE_RATES = [5, 20];

/** Socket.IO with and without `perMessageDeflate: true`, before clients that offer it as browsers do. */
export function deflateAblation(): Promise<Run[]> {
  return inTurns(TURNS, [() => deflated("off"), () => deflated("on")]);
}

async function deflated(DEFLATE: "on" | "off"): Promise<Run<DeflateResult>[]> {
  const members = DEFLATE_MEMBERS;
  const at = await stage("socket.io classic", { town: crowd(members), env: { DEFLATE } }, { members: 0 });
  try {
    const pid = at.system.parts.find(({ name }) => name === "replica")?.pid ?? 0;
    const before = rss(pid);
    await connect(at, at.system.ports[0] ?? 0, at.system.members);
    await quiet(at.generator);
    const runs: Run<DeflateResult>[] = [];
    for (const rate of DEFLATE_RATES) {
      const loaded = await load(at, order(rate, { measureSeconds: 3, warmRate: rate, words: true }));
      const result = { ...loaded, connectionBytes: (rss(pid) - before) / members };
      runs.push(
        record({
          workload: "ablation deflate",
          system: "socket.io classic",
          options: { members, rate, DEFLATE },
          result,
          ...judge(loaded),
        }),
      );
    }
    return runs;
  } finally {
    await at.stop();
  }
}

export type HandshakeResult = { connections: number; cpuUs: number };

/** What it costs to open a WebSocket, sign in and hear one's rooms: what a connection for each message would cost. */
export function handshakes(): Promise<Run[]> {
  const members = 500;
  return inTurns(TURNS, [
    async () => {
      const at = await stage("hubbub", { town: towns(2 * members, 2) }, { members });
      try {
        const pids = at.system.parts.map(({ pid }) => pid);
        const from = pids.map(cpuNs);
        await connect(at, at.system.ports[0] ?? 0, at.system.members.slice(members));
        const ns = pids.reduce((sum, pid, index) => sum + cpuNs(pid) - (from[index] ?? 0), 0);
        const result: HandshakeResult = { connections: members, cpuUs: ns / 1_000 / members };
        const options = { connections: members };
        return [record({ workload: "ablation handshake", system: "hubbub", options, result })];
      } finally {
        await at.stop();
      }
    },
  ]);
}
