import type { HandshakeResult } from "./ablation.ts";
import type { PagesResult } from "./generator.ts";
import { spread, type Spread } from "./statistics.ts";
import {
  cell,
  figuresOver,
  groups,
  loadTable,
  number,
  over,
  results,
  short,
  table,
  type Group,
  type LoadFigures,
  type Pass,
} from "./tables.ts";
import { TECHNIQUES } from "./techniques.ts";
import type { ReplicasResult } from "./workloads.ts";

/** The results page's part on techniques and advice, each on and off. */

type Compared = {
  what: string;
  where: string;
  with_: Spread | null;
  without: Spread | null;
  /** Without it messages were lost or refused, in most of its runs. */
  broke?: boolean;
};

/** How much dearer it is without, and whether that is more than chance: where both ranges overlap, it is not said. */
function verdict({ with_, without, broke }: Compared): [times: string, verdict: string] {
  if (!with_ || !without) return ["—", "not measured"];
  if (broke) return ["—", "gains: without it the replica breaks down"];
  const times = `${short(without.median / with_.median)} times`;
  if (without.min > with_.max) return [times, "gains"];
  if (without.max < with_.min) return [times, "**costs**"];
  return [times, "nothing beyond chance"];
}

function found(pass: Pass, workload: string, options: Record<string, unknown>): Group | undefined {
  return groups(pass, workload).find((group) =>
    ["rate", "BATCH_WINDOW", "without", "DEFLATE", "RELAY_CHANNEL", "each"].every(
      (name) => group.options[name] === options[name],
    ),
  );
}

function isBroken(group: Group | undefined): boolean {
  const failed = group?.runs.filter(({ verdict: told }) => told === "failed").length ?? 0;
  return failed > (group?.runs.length ?? 0) / 2;
}

/** CPU µs of a page of messages. */
function reading(pass: Pass, changed: Record<string, unknown>) {
  return figuresOver<PagesResult>(found(pass, "ablation reading", changed), ({ cpuUs }) => cpuUs);
}

function compared(pass: Pass): Compared[] {
  const list: Compared[] = [];
  const cost = ({ cpuUs }: LoadFigures) => cpuUs;
  const hot = (rate: number, changed: Record<string, unknown>) =>
    over(found(pass, "ablation", { rate, ...changed }), cost);
  for (const [what, without] of [
    ["batches", { BATCH_WINDOW: "0" }],
    ...Object.keys(TECHNIQUES).map((name) => [name, { without: name }] as const),
  ] as const)
    for (const rate of [20, 400])
      list.push({
        what,
        where: `hot room, ${rate} messages a second: µs per delivery`,
        with_: hot(rate, {}),
        without: hot(rate, without),
        broke: isBroken(found(pass, "ablation", { rate, ...without })),
      });
  list.push({
    what: "gathered Redis writes",
    where: "`GET messages`, 32 at once: µs each",
    with_: reading(pass, {}),
    without: reading(pass, { without: "gathered Redis writes" }),
  });
  const channels = (changed: Record<string, unknown>) =>
    figuresOver<ReplicasResult>(
      found(pass, "ablation channels", { rate: 800, ...changed }),
      ({ cpuUsPerMessage }) => cpuUsPerMessage,
    );
  list.push({
    what: "a channel for each room",
    where: "4 replicas, rooms of two: µs per message",
    with_: channels({}),
    without: channels({ RELAY_CHANNEL: "single" }),
  });
  return list;
}

/** The advice that is often heard: what the page's reader may want to know before following it. */
function advice(pass: Pass): Compared[] {
  const list: Compared[] = [];
  for (const rate of [20, 400])
    for (const [what, figure] of [
      ["CPU µs per delivery", ({ cpuUs }: LoadFigures) => cpuUs],
      ["p50 ms", ({ p50Ms }: LoadFigures) => p50Ms],
    ] as const)
      list.push({
        what: "messages collected, up to 50 ms",
        where: `Hubbub's hot room, ${rate} messages a second: ${what}`,
        with_: over(found(pass, "ablation", { rate }), figure),
        without: over(found(pass, "ablation", { rate, BATCH_WINDOW: "0" }), figure),
      });
  const rates = [...new Set(groups(pass, "ablation deflate").map(({ options }) => Number(options["rate"])))];
  const told: [what: string, figure: (figures: LoadFigures) => number | null][] = [
    ["CPU µs per delivery", ({ cpuUs }) => cpuUs],
    [
      "KB of memory per connection, once it was used",
      ({ connectionBytes }) => (connectionBytes ?? Number.NaN) / 1e3,
    ],
    ["bytes on the wire per delivery", ({ wireBytes }) => wireBytes ?? null],
  ];
  for (const rate of rates.length > 0 ? rates : [20])
    for (const [what, figure] of told)
      list.push({
        what: "permessage-deflate",
        where: `Socket.IO, 200 members, ${rate} messages a second: ${what}`,
        with_: over(found(pass, "ablation deflate", { rate, DEFLATE: "on" }), figure),
        without: over(found(pass, "ablation deflate", { rate, DEFLATE: "off" }), figure),
      });
  list.push({
    what: "connections kept",
    where: "`GET messages`, beside a new connection for each: CPU µs each",
    with_: reading(pass, {}),
    without: reading(pass, { each: "new" }),
  });
  return list;
}

function comparison(rows: Compared[]): string {
  return table(
    ["technique", "measured on", "with it", "without it", "without, in times of with", "so it"],
    rows.map((row) => {
      const told = (values: Spread | null) => (values ? cell(values) : "—");
      return [row.what, row.where, told(row.with_), told(row.without), ...verdict(row)];
    }),
  );
}

function handshakes(pass: Pass): string {
  const costs = results<HandshakeResult>(pass, "ablation handshake").map(({ figures }) => figures.cpuUs);
  const all = spread(costs);
  if (!all) return "What a WebSocket connection for each message would cost: not measured.";
  return `To open a WebSocket, sign in by a session and hear one's rooms takes ${cell(all)} µs of CPU, Redis included: whoever opened a connection for each message would pay that as well each time.`;
}

function nothingGained(rows: Compared[]): string {
  const measured = rows.filter(({ with_, without }) => with_ && without);
  if (measured.length === 0) return "";
  const names = [...new Set(measured.map(({ what }) => what))];
  const idle = names.filter((name) =>
    measured.every((row) => row.what !== name || !verdict(row)[1].startsWith("gains")),
  );
  return idle.length > 0
    ? `Without a gain that is beyond chance anywhere: ${idle.join(", ")}.`
    : "Every technique gains somewhere.";
}

export function ablationSection(pass: Pass): string {
  const own = compared(pass);
  return `## Ablation

Hubbub as it is, and with one technique taken out: by its switch, or out of a copy of its sources. All variants take turns. A technique gains where its dearest run is cheaper than the cheapest without it.

${comparison(own)}

${nothingGained(own)}

${loadTable(pass, "ablation", ({ options }) =>
  options["without"]
    ? `without: ${options["without"]}`
    : options["BATCH_WINDOW"] === undefined
      ? "as it is"
      : `BATCH_WINDOW=${options["BATCH_WINDOW"]}`,
)}

### Advice that is often heard

For permessage-deflate messages are of 200 characters of everyday words by chance. Clients offer it as browsers do and unpack every message; what they send is not compressed.

${comparison(advice(pass))}

${handshakes(pass)}
`;
}

/** How much of a message's CPU is Redis', from few messages a second to many. */
export function storedTable(pass: Pass): string {
  type Stored = { cpuUs: number; usPerAppend: number; sent: number };
  const rows = groups(pass, "redis").map((group) => {
    const { rooms, members, rate } = group.options;
    return {
      rate: Number(rate),
      row: [
        number(Number(rate), 0),
        `${rooms} rooms of ${members}`,
        cell(figuresOver<Stored>(group, ({ cpuUs }) => cpuUs)),
        short(figuresOver<Stored>(group, ({ usPerAppend }) => usPerAppend)?.median),
        number(figuresOver<Stored>(group, ({ sent }) => sent)?.median, 2),
      ],
    };
  });
  for (const rate of [400, 1_000]) {
    const group = groups(pass, "hot room").find(
      ({ system, options }) => system === "hubbub" && options["rate"] === rate,
    );
    const members = Number(group?.options["members"]);
    if (!group) continue;
    rows.push({
      rate,
      row: [
        number(rate, 0),
        `the hot room of ${members}`,
        cell(over(group, ({ redisUs }) => redisUs * members)),
        "—",
        "—",
      ],
    });
  }
  if (rows.length === 0) return "Not measured.";
  return table(
    [
      "messages a second",
      "into",
      "Redis' CPU µs for each stored message",
      "of it in the script",
      "commands that a replica sends",
    ],
    rows.toSorted((a, b) => a.rate - b.rate).map(({ row }) => row),
  );
}
