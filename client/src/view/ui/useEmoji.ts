import { laterValue } from "../later.ts";
import { keepSetting, readSetting } from "../settings.ts";

const RECENT_MOST = 18;

/** All emoji, and the search among them, once loaded: they load when they are first needed. */
export const useEmoji = laterValue(async () => {
  const { findEmoji, loadEmoji } = await import("../../text/emoji.ts");
  const all = await loadEmoji();
  return { all, find: (text: string, most: number) => findEmoji(all, text, most) };
}, "used");

/** The emoji that this browser's user chose last, the newest first. */
export function recentEmoji(): string[] {
  return (readSetting("emoji recent") ?? "").split(" ").filter(Boolean);
}

/** Remembers a chosen emoji. */
export function noteEmoji(emoji: string): void {
  const rest = recentEmoji().filter((other) => other !== emoji);
  keepSetting("emoji recent", [emoji, ...rest].slice(0, RECENT_MOST).join(" "));
}

/** The skin tone that was chosen last: 0 for none, 1 to 5 from light to dark. */
export function recentTone(): number {
  return Number(readSetting("emoji tone") ?? 0);
}

export function noteTone(tone: number): void {
  keepSetting("emoji tone", String(tone));
}
