const PREFIX = "hubbub ";
/** What the browser does not keep, as long as the page. */
const held = new Map<string, string>();

/** A small setting of this browser, or null. */
export function readSetting(name: string): string | null {
  try {
    return held.get(name) ?? localStorage.getItem(PREFIX + name);
  } catch {
    return null;
  }
}

/** Keeps it; where there is no storage, or no space in it, until the page is left. */
export function keepSetting(name: string, value: string): void {
  held.delete(name);
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    held.set(name, value);
  }
}
