import * as fc from "fast-check";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { dayOf, showAtWhen, showClock, showDay, showWhen, subscribeToDays, watchMoment } from "./time.ts";

/** Summer time by an hour, by half an hour, at midnight itself, in the south, none; and days that begin far apart. */
const ZONES = [
  "Europe/Berlin",
  "America/New_York",
  "Australia/Lord_Howe",
  "America/Santiago",
  "Africa/Cairo",
  "America/Havana",
  "Asia/Kathmandu",
  "Pacific/Kiritimati",
  "Pacific/Pago_Pago",
  "UTC",
];
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

let window: EventTarget;

beforeEach(() => {
  vi.useFakeTimers();
  window = new EventTarget();
  for (const name of ["addEventListener", "removeEventListener"] as const)
    vi.stubGlobal(name, window[name].bind(window));
  vi.stubGlobal("document", new EventTarget());
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.unstubAllEnvs();
});

/** Tells the number of a date's day in this zone, by nothing but its calendar. */
function createCalendar(timeZone: string): (date: number) => number {
  const format = new Intl.DateTimeFormat("en", {
    timeZone,
    year: "numeric",
    month: "numeric",
    day: "numeric",
  });
  return (date) => {
    const parts = format.formatToParts(date).map(({ type, value }) => [type, Number(value)] as const);
    const { year = 0, month = 0, day = 0 } = Object.fromEntries(parts) as Record<string, number>;
    return Date.UTC(year, month - 1, day) / DAY_MS;
  };
}

/** An instant of 2026 or 2027; half of them within two days of the change to summer time or back in some zone. */
const instant = fc.oneof(
  fc.integer({ min: Date.UTC(2026, 0, 1), max: Date.UTC(2027, 11, 31) }),
  fc
    .tuple(
      fc.constantFrom(
        "2026-03-08",
        "2026-03-29",
        "2026-04-05",
        "2026-04-24",
        "2026-09-06",
        "2026-10-04",
        "2026-10-25",
        "2026-10-29",
        "2026-11-01",
      ),
      fc.integer({ min: -2 * DAY_MS, max: 2 * DAY_MS }),
    )
    .map(([day, ms]) => Date.parse(day) + ms),
);

test.each(ZONES)("in %s days follow the calendar, also when clocks change", (zone) => {
  vi.stubEnv("TZ", zone);
  const calendarDay = createCalendar(zone);
  fc.assert(
    fc.property(instant, fc.integer({ min: 0, max: 9 * 24 * 60 }), (now, minutes) => {
      vi.setSystemTime(now);
      const date = now - minutes * 60_000;
      const ago = calendarDay(now) - calendarDay(date);
      expect(dayOf(date) === dayOf(now)).toBe(ago === 0);
      expect(showDay(date) === "Today").toBe(ago === 0);
      expect(showDay(date) === "Yesterday").toBe(ago === 1);
      expect(/\d:\d\d/.test(showWhen(date))).toBe(ago === 0);
    }),
    { numRuns: 100 },
  );
});

test.each([
  ["of 24 hours", "Europe/Berlin", "2026-11-26T23:00:00Z", 24],
  ["of 23 hours", "Europe/Berlin", "2027-03-27T23:00:00Z", 23],
  ["of 25 hours", "Europe/Berlin", "2026-10-24T22:00:00Z", 25],
  ["of 23 and a half", "Australia/Lord_Howe", "2026-10-03T13:30:00Z", 23.5],
  ["without a midnight", "Africa/Cairo", "2026-04-23T22:00:00Z", 23],
])("a day %s ends at its midnight, not before", (_, zone, begins, hours) => {
  vi.stubEnv("TZ", zone);
  const at = Date.parse(begins);
  const told: number[] = [];
  for (const midnight of [at, at + hours * HOUR_MS]) {
    vi.setSystemTime(midnight - 59_000);
    const stop = subscribeToDays(() => told.push(Date.now() - at));
    vi.advanceTimersByTime(90_000);
    stop();
  }
  expect(told).toEqual([0, hours * HOUR_MS]);
});

test("after a sleep the day is checked when the user comes back, and at most 15 s later", () => {
  vi.stubEnv("TZ", "Europe/Berlin");
  const said = Date.parse("2026-11-26T17:00:00Z");
  vi.setSystemTime(said);
  let told = 0;
  const stop = subscribeToDays(() => (told += 1));
  vi.setSystemTime(said + 8 * HOUR_MS);
  expect(told).toBe(0);
  window.dispatchEvent(new Event("focus"));
  expect([told, showDay(said)]).toEqual([1, "Yesterday"]);
  vi.setSystemTime(said + 32 * HOUR_MS);
  vi.advanceTimersByTime(15_000);
  expect(told).toBe(2);
  expect(showDay(said)).toMatch(/26/);
  stop();
  vi.setSystemTime(said + 64 * HOUR_MS);
  vi.advanceTimersByTime(15_000);
  expect(told).toBe(2);
});

test("a moment comes in time, and after a sleep at most 15 s late, once", () => {
  const come: number[] = [];
  for (const asleep of [0, 2 * HOUR_MS]) {
    const moment = Date.now() + HOUR_MS;
    const stop = watchMoment(moment, () => come.push(Date.now() - moment));
    vi.setSystemTime(Date.now() + asleep);
    vi.advanceTimersByTime(asleep === 0 ? HOUR_MS : 15_000);
    vi.advanceTimersByTime(HOUR_MS);
    stop();
  }
  expect(come).toEqual([0, HOUR_MS + 15_000]);
  watchMoment(Date.now() + 1_000, () => come.push(0))();
  watchMoment(Date.now(), () => come.push(0));
  vi.advanceTimersByTime(HOUR_MS);
  expect(come).toHaveLength(2);
});

test("clock times follow the zone, and summer time", () => {
  vi.stubEnv("TZ", "Europe/Berlin");
  const said = Date.parse("2026-11-26T17:00:00Z");
  vi.setSystemTime(said);
  let told = 0;
  const stop = subscribeToDays(() => (told += 1));
  const clocks = [showClock(said), showClock(said - 60 * DAY_MS)].map((text) => text.replace(/^0/, ""));
  vi.stubEnv("TZ", "Asia/Kathmandu");
  window.dispatchEvent(new Event("focus"));
  expect(told).toBe(1);
  const later = showClock(said);
  stop();
  const hour = (text: string) => Number(/\d+/.exec(text)?.[0]) % 12;
  // An hour more in September, at the same UTC.
  expect(clocks.map(hour)).toEqual([6, 7]);
  expect(later).toMatch(/10:45/);
});

test("the short form of a day of another year names the year", () => {
  vi.stubEnv("TZ", "Europe/Berlin");
  vi.setSystemTime(Date.parse("2026-02-20T17:00:00Z"));
  expect(showWhen(Date.parse("2026-01-02T17:00:00Z"))).not.toMatch(/26/);
  expect(showWhen(Date.parse("2025-12-30T17:00:00Z"))).toMatch(/2025/);
  expect(showAtWhen(Date.parse("2023-02-20T17:00:00Z"))).toMatch(/^on .*2023/);
});

test("a year is that of the calendar of the person's language", async () => {
  const { DateTimeFormat } = Intl;
  vi.stubEnv("TZ", "Asia/Tehran");
  const inPersian = function (_locale: undefined, options: Intl.DateTimeFormatOptions) {
    return new DateTimeFormat("fa-IR", options);
  };
  vi.stubGlobal("Intl", { DateTimeFormat: inPersian });
  vi.resetModules();
  const time = await import("./time.ts");
  // 10 Azar 1405.
  vi.setSystemTime(Date.parse("2026-12-01T12:00:00Z"));
  expect(time.showWhen(Date.parse("2026-04-10T12:00:00Z"))).not.toMatch(/۱۴۰/);
  expect(time.showWhen(Date.parse("2026-02-10T12:00:00Z"))).toMatch(/۱۴۰۴/);
});
