import type { ReactNode } from "react";
import css from "./Found.module.css";

type CountProps = {
  /** null while it is not known, or not worth a word. */
  total: number | null;
  /** Of how many; null where that is not known. */
  all: number | null;
  what: string;
};

/** "12 of 10,000 people" */
export function FoundCount({ total, all, what }: CountProps) {
  return (
    <p className={css.count} aria-live="polite">
      {total !== null &&
        `${total.toLocaleString()}${all === null ? "" : ` of ${all.toLocaleString()}`} ${what}`}
    </p>
  );
}

/** What is said in the place of what was not found; null for nothing. */
export function FoundNothing({ children }: { children: ReactNode }) {
  return (
    <p className={css.nothing} aria-live="polite">
      {children}
    </p>
  );
}
