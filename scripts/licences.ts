import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { LICENCES_PAGE, licencesPage, readLock } from "./lock.ts";
import { root } from "./prepare.mjs";

/** `npm run licences`: writes docs/licences.md. */
export function main(): Promise<void> {
  writeFileSync(join(root, LICENCES_PAGE), licencesPage(readLock()));
  return Promise.resolve();
}
