import { useCallback, useSyncExternalStore } from "react";

const DAY_MS = 24 * 3600 * 1000;
/** A machine that slept, or changed its zone, reports nothing, so we check the clock this often. */
const LOOK_EVERY_MS = 15_000;

/** Formatters keep the zone in which they were made. */
function createFormats() {
  return {
    clock: new Intl.DateTimeFormat(undefined, { timeStyle: "short" }),
    weekday: new Intl.DateTimeFormat(undefined, { weekday: "short" }),
    shortDay: new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" }),
    shortDayOfYear: new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" }),
    year: new Intl.DateTimeFormat(undefined, { year: "numeric" }),
    longDay: new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" }),
    longDayOfYear: new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" }),
    full: new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" }),
  };
}

let formats = createFormats();
let zone = formats.clock.resolvedOptions().timeZone;

const listeners = new Set<() => void>();
let stop = () => {};

/** Calls back at each new day and zone; answers its undo. */
export function subscribeToDays(changed: () => void): () => void {
  if (listeners.size === 0) stop = watchClock();
  listeners.add(changed);
  return () => {
    listeners.delete(changed);
    if (listeners.size === 0) stop();
  };
}

function watchClock(): () => void {
  let midnight: ReturnType<typeof setTimeout> | undefined;
  let seen = "";
  function look() {
    const now = new Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (now !== zone) {
      zone = now;
      formats = createFormats();
    }
    clearTimeout(midnight);
    midnight = setTimeout(look, new Date().setHours(24, 0, 0, 0) - Date.now());
    if (readClock() === seen) return;
    seen = readClock();
    for (const listener of listeners) listener();
  }
  look();
  const every = setInterval(look, LOOK_EVERY_MS);
  addEventListener("focus", look);
  addEventListener("pageshow", look);
  document.addEventListener("visibilitychange", look);
  return () => {
    clearTimeout(midnight);
    clearInterval(every);
    removeEventListener("focus", look);
    removeEventListener("pageshow", look);
    document.removeEventListener("visibilitychange", look);
  };
}

function readClock(): string {
  return `${dayOf(Date.now())} ${zone}`;
}

/** Renders a component again when the texts below change: at midnight, and in another zone. */
export function useClock(): void {
  useSyncExternalStore(subscribeToDays, readClock);
}

/** Calls back once a moment has come, if it is still to come; answers its undo. */
export function watchMoment(moment: number, come: () => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  function look() {
    const left = moment - Date.now();
    // Timers stand still while the machine sleeps.
    if (left > 0) timer = setTimeout(look, Math.min(left, LOOK_EVERY_MS));
    else come();
  }
  if (moment > Date.now()) look();
  return () => clearTimeout(timer);
}

/** Whether a moment has come. Renders a component again when it does. */
export function useHasCome(moment: number): boolean {
  const subscribe = useCallback((come: () => void) => watchMoment(moment, come), [moment]);
  return useSyncExternalStore(subscribe, () => moment <= Date.now());
}

/** Local midnight before a date, in ms: equal for two dates of the same day. */
export function dayOf(date: number): number {
  return new Date(date).setHours(0, 0, 0, 0);
}

/** Rounded, because a day on which clocks change has 23 or 25 hours. */
function daysAgo(date: number): number {
  return Math.round((dayOf(Date.now()) - dayOf(date)) / DAY_MS);
}

/** 14:05 */
export function showClock(date: number): string {
  return formats.clock.format(date);
}

/** The whole date and time, as the tooltip of a short one. */
export function showFull(date: number): string {
  return formats.full.format(date);
}

/** Today, Yesterday, Monday 3 March, 3 March 2024 */
export function showDay(date: number): string {
  const ago = daysAgo(date);
  if (ago === 0) return "Today";
  if (ago === 1) return "Yesterday";
  return (isThisYear(date) ? formats.longDay : formats.longDayOfYear).format(date);
}

/** at 14:05, on Mon, on 3 Mar, on 3 Mar 2024 */
export function showAtWhen(date: number): string {
  return `${daysAgo(date) <= 0 ? "at" : "on"} ${showWhen(date)}`;
}

/** Until when: 14:05, or 3 March 2024, 14:05 */
export function showUntil(date: number): string {
  return daysAgo(date) === 0 ? showClock(date) : `${formats.longDayOfYear.format(date)}, ${showClock(date)}`;
}

/** The shortest clear form: 14:05, Mon, 3 Mar, 3 Mar 2024 */
export function showWhen(date: number): string {
  const ago = daysAgo(date);
  if (ago <= 0) return showClock(date);
  if (ago < 7) return formats.weekday.format(date);
  return (isThisYear(date) ? formats.shortDay : formats.shortDayOfYear).format(date);
}

function isThisYear(date: number): boolean {
  // By the calendar of the person's language: there a year may begin in March.
  return formats.year.format(date) === formats.year.format(Date.now());
}
