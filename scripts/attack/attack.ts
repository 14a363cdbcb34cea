import { stop } from "../prepare.mjs";
import { overload } from "./overload.ts";

const HELP = `npm run attack -- overload

  overload  what one client's flood does to other people: their delays, quiet and attacked (npm run attack -- overload --help)`;

/** `npm run attack`: see HELP. */
export async function main(args: string[]): Promise<number> {
  const [command, ...rest] = args;
  if (command === "overload") return overload(rest);
  throw stop(HELP, 64);
}
