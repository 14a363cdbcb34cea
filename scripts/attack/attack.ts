import { stop } from "../prepare.mjs";
import { fuzzCommand } from "./fuzz.ts";
import { overload } from "./overload.ts";

const HELP = `npm run attack -- fuzz
npm run attack -- overload

  fuzz      sequences of a grammar, from TCP to events (npm run attack -- fuzz --help)
  overload  what one client's flood does to other people: their delays, quiet and attacked (npm run attack -- overload --help)`;

/** `npm run attack`: see HELP. */
export async function main(args: string[]): Promise<number> {
  const [command, ...rest] = args;
  if (command === "fuzz") return fuzzCommand(rest);
  if (command === "overload") return overload(rest);
  throw stop(HELP, 64);
}
