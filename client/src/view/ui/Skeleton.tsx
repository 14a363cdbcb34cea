import css from "./Skeleton.module.css";

const LINES = ["62%", "38%", "80%", "45%", "70%", "30%"];

/** A placeholder for rooms. */
export function SkeletonRows() {
  return (
    <div className={css.rows} aria-hidden="true">
      <span />
      <span />
      <span />
    </div>
  );
}

/** A placeholder for messages. */
export function SkeletonLog() {
  return (
    <div className={css.log} aria-hidden="true">
      {LINES.map((width) => (
        <div key={width} className={css.message}>
          <span />
          <div>
            <span />
            <span style={{ width }} />
          </div>
        </div>
      ))}
    </div>
  );
}
