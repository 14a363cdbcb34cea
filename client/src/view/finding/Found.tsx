import type { ReactNode } from "react";
import css from "./Found.module.css";

type CountProps = {
  /** null while it is unknown, or not worth showing. */
  total: number | null;
  /** The total; null if it is unknown. */
  all: number | null;
  /** What they are, one of them and several. */
  what: readonly [one: string, several: string];
};

/** "12 of 10,000 people" */
export function FoundCount({ total, all, what }: CountProps) {
  return (
    <p className={css.count} aria-live="polite">
      {total !== null &&
        `${total.toLocaleString()}${all === null ? "" : ` of ${all.toLocaleString()}`} ${what[(all ?? total) === 1 ? 0 : 1]}`}
    </p>
  );
}

/** The text to show if nothing was found; null for none. */
export function FoundNothing({ children }: { children: ReactNode }) {
  return (
    <p className={css.nothing} aria-live="polite">
      {children}
    </p>
  );
}
