import { parseArgs } from "node:util";
import { orHelp, stop } from "../prepare.mjs";
import type { Run } from "./run.ts";
import { besideCheckout, fetchPeers, isHere, SYSTEMS, type SystemName, type Target } from "./systems.ts";
import { tablesOf } from "./tables.ts";
import { hot, inTurns, WORKLOADS, type Sizes, type Workload } from "./workloads.ts";

const HELP = `npm run --silent bench -- --quick       a minute: the hot room, beside Socket.IO; one line of JSON
npm run bench -- --workload NAME[,NAME] [--system NAME[,NAME]] [--repeats 3]
npm run bench -- --workload NAME --beside ../old    this build and another checkout's in turns, compared
npm run bench -- --workload quiet --beside ../old --at-once --seconds 40   both at once: noise reaches both alike
npm run bench -- --all [--repeats 3]                every workload
npm run bench -- --peers                            fetches nchan into .cache

Workloads:
${Object.entries(WORKLOADS)
  .map(([name, { about }]) => `  ${name.padEnd(10)}${about}`)
  .join("\n")}
Systems: ${Object.keys(SYSTEMS).join(", ")}. Without a workload it is hot.
Also: --rate 100,400 and --members 500 (hot), --connections 90000 (idle, return), --messages 1000000 (search),
--seconds 5, --env NAME=value.
Each run writes a file to .cache/bench/results; the tables come at the end. The exit code is 1 if a message was lost,
repeated, out of order or not answered, and 75 if the generator was over its limit.`;

const OPTIONS = {
  help: { type: "boolean" },
  quick: { type: "boolean" },
  all: { type: "boolean" },
  peers: { type: "boolean" },
  workload: { type: "string", multiple: true },
  system: { type: "string", multiple: true },
  beside: { type: "string" },
  "at-once": { type: "boolean" },
  repeats: { type: "string" },
  rate: { type: "string" },
  members: { type: "string" },
  connections: { type: "string" },
  messages: { type: "string" },
  seconds: { type: "string" },
  env: { type: "string", multiple: true },
} as const;

/** Answers the exit code. */
export async function main(args: string[]): Promise<number> {
  const { values } = orHelp(HELP, () => parseArgs({ args, options: OPTIONS }));
  if (process.platform !== "linux") throw stop("The benchmark reads /proc: it runs on Linux only.", 69);
  if (values.peers) {
    await fetchPeers((line) => process.stderr.write(`${line}\n`));
    return 0;
  }
  if (values.quick) return quick();
  if (values.help || Object.keys(values).length === 0) {
    console.log(HELP);
    return 0;
  }
  const workloads = values.all
    ? Object.values<Workload>(WORKLOADS)
    : named("workload", values.workload ?? ["hot"], WORKLOADS).map((name): Workload => WORKLOADS[name]);
  const systems = values.system && named("system", values.system, SYSTEMS);
  const sizes: Sizes = {
    ...(values.rate !== undefined && { rates: wholes("rate", values.rate) }),
    ...(values.messages !== undefined && { messages: wholes("messages", values.messages) }),
    ...(values.members !== undefined && { members: whole("members", values.members) }),
    ...(values.connections !== undefined && { connections: whole("connections", values.connections) }),
    ...(values.seconds !== undefined && { seconds: whole("seconds", values.seconds) }),
    env: Object.fromEntries((values.env ?? []).map((pair) => pair.split(/=(.*)/s, 2) as [string, string])),
  };
  const repeats = whole("repeats", values.repeats ?? (values.beside === undefined ? "1" : "3"));
  const runs: Run[] = [];
  const broken: string[] = [];
  for (const workload of workloads) {
    const targets = targetsOf(
      systems ?? (values.beside === undefined ? workload.systems : []),
      values.beside,
    );
    // A system that breaks is reported and does not end the others' runs.
    const times = { repeats, sizes, atOnce: values["at-once"] ?? false };
    await inTurns(workload, targets, times, (told) => runs.push(...told), broken);
  }
  console.log([tablesOf(runs), ...broken].join("\n\n"));
  return broken.length > 0 ? 1 : exitCode(runs);
}

/** The systems to measure; `beside` adds another checkout's build in front of this one's. */
function targetsOf(systems: SystemName[], beside: string | undefined): Target[] {
  const wanted = beside === undefined ? systems : systems.filter((system) => system !== "hubbub");
  for (const system of wanted)
    if (!isHere(system))
      process.stderr.write(`${system} is absent: \`npm run bench -- --peers\` fetches it\n`);
  const others = wanted.filter(isHere).map((system) => ({ system, name: system }));
  return beside === undefined ? others : [...besideCheckout(beside), ...others];
}

function named<Name extends string>(what: string, given: string[], known: Record<Name, unknown>): Name[] {
  return given
    .flatMap((names) => names.split(","))
    .map((name) => {
      if (!Object.hasOwn(known, name)) throw stop(`There is no ${what} "${name}".\n\n${HELP}`, 64);
      return name as Name;
    });
}

function wholes(option: string, text: string): number[] {
  return text.split(",").map((part) => whole(option, part));
}

function whole(option: string, text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw stop(`--${option} takes whole numbers from 1 on.`, 64);
  return Number(text);
}

function exitCode(runs: Run[]): number {
  if (runs.some(({ verdict }) => verdict === "failed")) return 1;
  return runs.some(({ verdict }) => verdict === "refused") ? 75 : 0;
}

/** 500 members, 400 messages a second, Hubbub and Socket.IO, once each. */
async function quick(): Promise<number> {
  const runs: Run[] = [];
  for (const target of targetsOf(["hubbub", "socket.io"], undefined))
    runs.push(...(await hot(target, { rates: [400] })));
  const told = runs.map(({ system, verdict, reasons, figures }) => {
    const values = Object.entries(figures).map(([label, { value }]) => [label, value && +value.toFixed(2)]);
    return [system, { verdict, reasons, ...Object.fromEntries(values) }];
  });
  console.log(JSON.stringify({ members: 500, rate: 400, ...Object.fromEntries(told) }));
  return exitCode(runs);
}
