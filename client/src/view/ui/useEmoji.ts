import { loadEmoji } from "../../text/emoji.ts";
import { laterValue } from "../later.ts";

const RECENT_MOST = 18;

/** All emoji, once loaded: they load when they are first needed. */
export const useEmoji = laterValue(loadEmoji, "used");

/** The emoji that this browser's user chose last, the newest first. */
export function recentEmoji(): string[] {
  return (recall("recent") ?? "").split(" ").filter(Boolean);
}

/** Remembers a chosen emoji. */
export function noteEmoji(emoji: string): void {
  const rest = recentEmoji().filter((other) => other !== emoji);
  keep("recent", [emoji, ...rest].slice(0, RECENT_MOST).join(" "));
}

/** The skin tone that was chosen last: 0 for none, 1 to 5 from light to dark. */
export function recentTone(): number {
  return Number(recall("tone") ?? 0);
}

export function noteTone(tone: number): void {
  keep("tone", String(tone));
}

function recall(name: string): string | null {
  try {
    return localStorage.getItem(`hubbub emoji ${name}`);
  } catch {
    return null;
  }
}

function keep(name: string, value: string): void {
  try {
    localStorage.setItem(`hubbub emoji ${name}`, value);
  } catch {
    // A browser without storage forgets it.
  }
}
