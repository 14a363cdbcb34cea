const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const shortDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const longDay = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const longDayOfYear = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

const DAY_MS = 24 * 3600 * 1000;

/** Local midnight before a date, in ms: equal for two dates of the same day. */
export function dayOf(date: number): number {
  return new Date(date).setHours(0, 0, 0, 0);
}

function daysAgo(date: number): number {
  return Math.round((dayOf(Date.now()) - dayOf(date)) / DAY_MS);
}

/** 14:05 */
export function showClock(date: number): string {
  return clock.format(date);
}

/** The whole date and time, for whoever points at a short one. */
export function showFull(date: number): string {
  return full.format(date);
}

/** Today, Yesterday, Monday 3 March, 3 March 2024 */
export function showDay(date: number): string {
  const ago = daysAgo(date);
  if (ago === 0) return "Today";
  if (ago === 1) return "Yesterday";
  return new Date(date).getFullYear() === new Date().getFullYear()
    ? longDay.format(date)
    : longDayOfYear.format(date);
}

/** The shortest that tells when: 14:05, Mon, 3 Mar */
export function showWhen(date: number): string {
  const ago = daysAgo(date);
  if (ago <= 0) return clock.format(date);
  return ago < 7 ? weekday.format(date) : shortDay.format(date);
}
