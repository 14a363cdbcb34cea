import type { HTMLAttributes } from "react";
import css from "./Pane.module.css";

/** The middle column of the page. */
export function Pane(props: Omit<HTMLAttributes<HTMLElement>, "className">) {
  return <main className={css.pane} {...props} />;
}
