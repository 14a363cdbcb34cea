import { labelOf, type HandshakeResult } from "./ablation.ts";
import { spread, type Spread } from "./statistics.ts";
import {
  cell,
  figuresOver,
  groups,
  inEachRun,
  loadTable,
  number,
  over,
  short,
  table,
  type Group,
  type Pass,
} from "./tables.ts";
import { LEFT_OUT, MEASURES, TECHNIQUES, type MeasureName } from "./techniques.ts";

/** The results page's part on techniques and advice, each on and off. */

type Options = Record<string, string | number>;

/** A measure, and what a run has with the technique or advice and without it. */
type Row = { what: string; measure: MeasureName; with_: Options; without: Options };

type Compared = {
  what: string;
  where: string;
  with_: Spread | null;
  without: Spread | null;
  /** In each turn, without it in times of with it. */
  times: number[];
  /** Without it messages were lost or refused, in most of its runs. */
  broke: boolean;
};

/** How much dearer it is without: more than chance where it is so in every turn, which see the same weather. */
function verdict({ with_, without, times, broke }: Compared): [times: string, verdict: string] {
  if (!with_ || !without) return ["—", "not measured"];
  if (broke) return ["—", "gains: without it the replica breaks down"];
  if (times.length === 0) return ["—", "not measured in one turn"];
  const told = `${short(spread(times)?.median)} times`;
  if (times.every((one) => one > 1)) return [told, "gains"];
  if (times.every((one) => one < 1)) return [told, "**costs**"];
  return [told, "nothing beyond chance"];
}

/** By which the runs of one turn differ; other options need not be named. */
const VARIES = ["without", "each", "DEFLATE"];

function found(pass: Pass, measure: MeasureName, variant: Options): Group | undefined {
  const { ablation, options } = MEASURES[measure];
  const wanted: Options = { ...options, ...variant };
  return groups(pass, labelOf(ablation)).find((group) =>
    [...VARIES, ...Object.keys(wanted)].every((name) => group.options[name] === wanted[name]),
  );
}

function isBroken(group: Group | undefined): boolean {
  const failed = group?.runs.filter(({ verdict: told }) => told === "failed").length ?? 0;
  return failed > (group?.runs.length ?? 0) / 2;
}

function compare(pass: Pass, { what, measure, with_, without }: Row): Compared {
  const { figure, unit, per = 1 } = MEASURES[measure];
  const told = (variant: Options) =>
    inEachRun<Partial<Record<string, number | null>>>(
      found(pass, measure, variant),
      (figures) => (figures[figure] ?? Number.NaN) / per,
    );
  const [having, lacking] = [told(with_), told(without)];
  return {
    what,
    where: `${measure}: ${unit}`,
    with_: spread(having),
    without: spread(lacking),
    times: lacking
      .map((value, turn) => value / (having[turn] ?? Number.NaN))
      .filter((value) => !Number.isNaN(value)),
    broke: isBroken(found(pass, measure, without)),
  };
}

const ownRows = (what: string, on: readonly MeasureName[]): Row[] =>
  on.map((measure) => ({ what, measure, with_: {}, without: { without: what } }));
const OWN = Object.entries(TECHNIQUES).flatMap(([what, { on }]) => ownRows(what, on));
const GONE = Object.entries(LEFT_OUT).flatMap(([what, on]) => ownRows(what, on));

/** The advice that is often heard: what the page's reader may want to know before following it. */
const ADVICE: Row[] = [
  ...(
    [
      "hot room, 20 messages a second",
      "hot room, 20 messages a second, median latency",
      "hot room, 400 messages a second",
      "hot room, 400 messages a second, median latency",
    ] as const
  ).map((measure) => ({
    what: "messages collected, up to 50 ms",
    measure,
    with_: {},
    without: { without: "batches" },
  })),
  ...(
    [
      "Socket.IO, 200 members, 5 messages a second",
      "Socket.IO, 200 members, 20 messages a second",
      "Socket.IO's connections, once they were used",
      "Socket.IO's frames",
    ] as const
  ).map((measure) => ({
    what: "permessage-deflate",
    measure,
    with_: { DEFLATE: "on" },
    without: { DEFLATE: "off" },
  })),
  {
    what: "connections kept",
    measure: "`GET messages`, 32 at once, the same page",
    with_: {},
    without: { each: "new" },
  },
];

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
  const costs = figuresOver<HandshakeResult>(
    found(pass, "500 people come to 500 others", {}),
    ({ cpuUs }) => cpuUs,
  );
  if (!costs) return "What a WebSocket connection for each message would cost: not measured.";
  return `To open a WebSocket, sign in by a session and hear one's rooms takes ${cell(costs)} µs of CPU, Redis included: whoever opened a connection for each message would pay that as well each time.`;
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

/** As it was when they were measured: later passes have nothing of them. */
function leftOut(pass: Pass): string {
  const rows = GONE.map((row) => compare(pass, row)).filter(({ with_, without }) => with_ && without);
  const names = `Measured in the same way, without a gain, and out of the code since: ${Object.keys(LEFT_OUT).join(", ")}.`;
  return rows.length > 0 ? `${names}\n\n${comparison(rows)}` : names;
}

export function ablationSection(pass: Pass): string {
  const own = OWN.map((row) => compare(pass, row));
  return `## Ablation

Hubbub as it is, and with one technique taken out: by its switch, or out of a copy of its sources. All variants take turns. A technique gains where it is dearer without it in every turn; the times are the median of the turns'.

${comparison(own)}

${nothingGained(own)}

${leftOut(pass)}

${loadTable(pass, "ablation", ({ options }) =>
  options["without"] ? `without: ${options["without"]}` : "as it is",
)}

### Advice that is often heard

For permessage-deflate messages are of 200 characters of everyday words by chance. Clients offer it as browsers do and unpack every message; what they send is not compressed.

${comparison(ADVICE.map((row) => compare(pass, row)))}

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
