import { parseArgs } from "node:util";
import { stop } from "../prepare.mjs";
import { ABLATIONS } from "./ablation.ts";
import { app } from "./app.ts";
import type { LoadResult } from "./generator.ts";
import { writeReport } from "./report.ts";
import type { Run } from "./run.ts";
import { fetchPeers, PEERS, peersThere, sendProgram, SYSTEMS, type SystemName } from "./systems.ts";
import { calibration, hotRoom, quietRooms, WORKLOADS } from "./workloads.ts";

const NAMED: typeof WORKLOADS = {
  ...WORKLOADS,
  ...ABLATIONS,
  app: (_systems, repeats = 1) => app(repeats),
};

const HELP = `npm run --silent bench -- --quick             one minute: the hot room, beside plain Socket.IO; one line of JSON
npm run bench -- --all [--repeats 3]          everything, and docs/performance.md from it
npm run bench -- --workload ${Object.keys(NAMED).join("|")}
        [--system ws] [--repeats 3] [--keep]  one part; --keep puts it into docs/performance.md in place of the old one
npm run bench -- --system ws --rate 100,400   the hot room on one system: ${Object.keys(SYSTEMS).join(", ")}
npm run bench -- --report                     docs/performance.md again from docs/performance/latest.json
npm run bench -- --peers                      fetches Bun, nchan and prosody into .cache, for --all and --system
Further: --members 500, --seconds 5, --connections 90000 (of many), --env NAME=value. Each run is one file in .cache/bench/results. The exit code
is 1 where a message was lost, repeated, out of order or not answered, and 75 where the generator was above its limit.`;

/** Answers the exit code. */
export async function main(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      help: { type: "boolean", default: false },
      quick: { type: "boolean", default: false },
      all: { type: "boolean", default: false },
      report: { type: "boolean", default: false },
      peers: { type: "boolean", default: false },
      keep: { type: "boolean", default: false },
      workload: { type: "string", multiple: true, default: [] },
      system: { type: "string", multiple: true, default: [] },
      rate: { type: "string", default: "20,100,400,1000" },
      members: { type: "string", default: "500" },
      connections: { type: "string" },
      seconds: { type: "string", default: "5" },
      repeats: { type: "string", default: "3" },
      env: { type: "string", multiple: true, default: [] },
    },
  });
  if (process.platform !== "linux")
    throw stop("The benchmark reads Linux' accounts: it runs on Linux only.", 69);
  if (values.peers) {
    await fetchPeers((line) => process.stderr.write(`${line}\n`));
    const there = peersThere();
    console.log(there.length > 0 ? `Here now: ${there.join(", ")}.` : "None is here.");
    return 0;
  }
  if (values.report) {
    await writeReport();
    return 0;
  }
  if (values.quick) return quick();
  if (values.all) return all(Number(values.repeats));
  const began = Date.now();
  const runs: Run[] = [];
  const wrong = values.system.find((name) => !(name in SYSTEMS));
  if (wrong !== undefined) throw stop(`There is no system "${wrong}".\n${HELP}`, 64);
  const systems = values.system as SystemName[];
  for (const name of values.workload) {
    const workload = NAMED[name];
    if (!workload) throw stop(`There is no workload "${name}".\n${HELP}`, 64);
    const connections = values.connections === undefined ? undefined : Number(values.connections);
    runs.push(
      ...(await workload(systems.length > 0 ? systems : undefined, Number(values.repeats), connections)),
    );
  }
  if (values.workload.length === 0) {
    const env = Object.fromEntries(values.env.map((pair) => pair.split("=", 2) as [string, string]));
    const options = { members: Number(values.members), seconds: Number(values.seconds), env };
    for (const system of systems)
      runs.push(...(await hotRoom(system, values.rate.split(",").map(Number), options)));
  }
  if (values.keep) await writeReport({ runs, absent: [], began, ended: Date.now() }, true);
  if (runs.length === 0) console.log(HELP);
  return exitCode(runs);
}

/** A variant without one of Hubbub's techniques may break down: that is what it is for, and is told on the page. */
function exitCode(runs: Run[]): number {
  if (runs.some(({ verdict, options }) => verdict === "failed" && !options["without"])) return 1;
  return runs.some(({ verdict }) => verdict === "refused") ? 75 : 0;
}

/** 500 members, 400 messages a second, Hubbub and plain Socket.IO, once each. */
async function quick(): Promise<number> {
  const runs: Run<LoadResult>[] = [];
  for (const system of ["hubbub", "socket.io classic"] as const)
    runs.push(...(await hotRoom(system, [400], { seconds: 4, label: "quick" })));
  const line = runs.map(({ system, verdict, result }) => [
    system,
    {
      verdict,
      cpuUsPerDelivery: round(result.cpuUsAll),
      p50Ms: round(result.latencyMs?.p50),
      p99Ms: round(result.latencyMs?.p99),
      lost: result.reconciliation.lost,
      duplicated: result.reconciliation.duplicated,
      disordered: result.reconciliation.disordered,
    },
  ]);
  console.log(JSON.stringify({ members: 500, rate: 400, ...Object.fromEntries(line) }));
  return exitCode(runs);
}

function round(value: number | undefined): number | null {
  return value === undefined ? null : Math.round(value * 100) / 100;
}

/** Everything: what is compared in turns, `repeats` times, the rest once; then the results page. */
async function all(repeats: number): Promise<number> {
  const began = Date.now();
  const runs: Run[] = [];
  const absent: string[] = [];
  // A system that breaks is told of and does not end the others' runs.
  const attempt = async (what: string, work: () => Promise<Run[]>) => {
    try {
      runs.push(...(await work()));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      process.stderr.write(`${what} broke off: ${reason}\n`);
      absent.push(`${what} broke off: ${reason}`);
    }
    // A pass that is interrupted leaves the page of what there is.
    await writeReport({ runs, absent, began, ended: Date.now() });
  };
  const there = peersThere();
  for (const peer of PEERS)
    if (!there.includes(peer)) absent.push(`${peer} is absent (\`npm run bench -- --peers\` fetches it)`);
  if (!sendProgram()) absent.push("C send is absent: this machine has no C compiler");
  // At 400 some are behind already: more would only make the queue longer.
  const compared: [SystemName, rates: number[]][] = [
    ["hubbub", [20, 100, 400, 1_000]],
    ["socket.io classic", [20, 100, 400]],
    ["socket.io classic tier 1", [20, 100]],
    ["ws", [20, 100, 400]],
    ["ws tier 3", [20, 100, 400]],
    ["bun", [20, 100, 400, 1_000]],
    ["nchan", [20, 100, 400, 1_000]],
  ];
  const isHere = (system: SystemName) => there.includes(system) || !PEERS.includes(system);
  for (let repeat = 0; repeat < repeats; repeat += 1) {
    for (const [system, rates] of compared) {
      if (!isHere(system)) continue;
      await attempt(system, () => hotRoom(system, rates));
      await attempt(system, () => quietRooms(system));
    }
  }
  await attempt("socket.io sharded", () => hotRoom("socket.io sharded", [20, 100]));
  if (isHere("prosody")) await attempt("prosody", () => hotRoom("prosody", [20, 100, 400]));
  for (const [name, workload] of Object.entries(NAMED))
    if (!["hot", "quiet", "calibration"].includes(name))
      await attempt(name, () => workload(undefined, repeats));
  for (let repeat = 0; repeat < repeats; repeat += 1) await attempt("calibration", calibration);
  return exitCode(runs);
}
