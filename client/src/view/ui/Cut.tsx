import type { ReactNode } from "react";
import { classes } from "./classes.ts";
import css from "./Cut.module.css";

/**
 * A name or a text that is cut where its place is too narrow: at its end, in whichever direction it is written. An
 * isolate in the line around it would be cut on that line's side. `half`: it leaves half of its CutLine to the rest.
 */
export function Cut({ half = false, children }: { half?: boolean; children: ReactNode }) {
  return (
    <span dir="auto" className={classes(css.cut, half && css.half)}>
      {children}
    </span>
  );
}

/** One line of such boxes, and words between them, which are never cut. */
export function CutLine({ children }: { children: ReactNode }) {
  return <span className={css.line}>{children}</span>;
}
