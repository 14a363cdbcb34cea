import type { HTMLAttributes } from "react";
import css from "./Pane.module.css";

/** The middle of the page, one thing above the other. */
export function Pane(props: Omit<HTMLAttributes<HTMLElement>, "className">) {
  return <main className={css.pane} {...props} />;
}
