import css from "./Spinner.module.css";

/** Shows that something is loading. Without a label it is decoration. */
export function Spinner({ label }: { label?: string }) {
  return <span className={css.spinner} role={label && "progressbar"} aria-label={label} />;
}
