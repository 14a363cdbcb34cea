import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../prepare.mjs";
import type { Result } from "./stage.ts";

export type Report = { date: string; seed: number; seconds: number; node: string; results: Result[] };

/** The file of the last run's report. */
export const PROVE_RESULT = join(root, ".cache/prove/result.json");

const BEGIN = "<!-- prove:begin -->";
const END = "<!-- prove:end -->";

/** The results as a Markdown table, with the date and the seed. */
export function tableOf({ date, seed, seconds, node, results }: Report): string {
  const head = [
    "what happens",
    "result",
    "sent",
    "acknowledged",
    "delivered",
    "lost",
    "duplicated",
    "reordered",
    "leaked",
  ];
  const rows = results.map(({ title, outcome, reason, verdict }) => {
    const counts = verdict
      ? [
          verdict.sent,
          verdict.acknowledged,
          verdict.delivered,
          verdict.lost,
          verdict.duplicated,
          verdict.reordered,
          verdict.leaked,
        ]
      : Array<string>(7).fill("");
    return [
      title,
      reason === undefined ? outcome : `skipped: ${reason}`,
      ...counts.map((count) => count.toLocaleString("en")),
    ];
  });
  const line = (cells: string[]) => `| ${cells.join(" | ")} |`;
  const passed = results.filter((result) => result.outcome === "passed").length;
  return [
    `${date.slice(0, 16).replace("T", " ")} UTC, seed ${seed}, Node ${node}: ${passed} of ${results.length} scenarios passed in ${seconds} s.`,
    "",
    line(head),
    line(head.map((_, index) => (index < 2 ? "---" : "--:"))),
    ...rows.map(line),
  ].join("\n");
}

/** Replaces the text between the two markers in docs/proof.md. Throws if they are missing. */
export function writePage(report: Report, file = join(root, "docs/proof.md")): void {
  const text = readFileSync(file, "utf8");
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`docs/proof.md has no ${BEGIN} and ${END}`);
  writeFileSync(file, `${text.slice(0, begin + BEGIN.length)}\n\n${tableOf(report)}\n\n${text.slice(end)}`);
}
