import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../prepare.mjs";
import { ACCESS } from "./access.ts";
import { DOORS } from "./doors.ts";
import { FILES } from "./files.ts";
import { HOUSE } from "./house.ts";
import type { Attack } from "./scene.ts";
import { STRAIN } from "./strain.ts";

/** All attacks by number; `SECURITY.md` has the same table. */
export const ATTACKS: readonly Attack[] = [...ACCESS, ...DOORS, ...STRAIN, ...FILES, ...HOUSE].toSorted(
  (one, other) => one.number - other.number,
);

/** The cells of an attack's row: number, what is sent, what answers it, the command that shows it. */
export function rowOf(attack: Attack): string[] {
  const { number, title, answer } = attack;
  if ("missing" in attack) return [String(number), title, `not built: ${attack.missing}`, ""];
  const test = "test" in attack ? attack.test : `npm run attack -- --only ${number}`;
  return [String(number), title, answer, `\`${test}\``];
}

const BEGIN = "<!-- attacks:begin -->";
const END = "<!-- attacks:end -->";

/** Replaces the table in SECURITY.md. Throws if its markers are missing. */
export function writeSecurity(file = join(root, "SECURITY.md")): void {
  const text = readFileSync(file, "utf8");
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`SECURITY.md has no ${BEGIN} and ${END}`);
  const line = (cells: string[]) => `| ${cells.join(" | ")} |`;
  const rows = [
    ["attack", "what is sent", "what answers it", "held by"],
    Array<string>(4).fill("---"),
    ...ATTACKS.map(rowOf),
  ];
  writeFileSync(
    file,
    `${text.slice(0, begin + BEGIN.length)}\n\n${rows.map(line).join("\n")}\n\n${text.slice(end)}`,
  );
}
