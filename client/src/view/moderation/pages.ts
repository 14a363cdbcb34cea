import { LIMITS } from "@hubbub/server/protocol";

/** The first pages of a list that `read` answers a page of, after its last entry so far; `more`: whether there are others. */
export async function readPages<T>(
  pages: number,
  read: (last: T | undefined) => Promise<T[]>,
): Promise<{ found: T[]; more: boolean }> {
  const found: T[] = [];
  let more = true;
  for (let page = 0; page < pages && more; page += 1) {
    const entries = await read(found.at(-1));
    found.push(...entries);
    more = entries.length >= LIMITS.pageDefault;
  }
  return { found, more };
}
