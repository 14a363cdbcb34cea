import css from "./Spinner.module.css";

/** Something is on its way. Without a label it is decoration. */
export function Spinner({ label }: { label?: string }) {
  return <span className={css.spinner} aria-label={label} />;
}
