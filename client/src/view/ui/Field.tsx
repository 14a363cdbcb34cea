import { useEffect, useId, useRef, type InputHTMLAttributes, type ReactNode } from "react";
import { isField } from "../keys.ts";
import { classes } from "./classes.ts";
import css from "./Field.module.css";

type Props = Omit<InputHTMLAttributes<HTMLInputElement>, "className" | "id" | "onChange"> & {
  label: string;
  /** What is wrong with the input, or what is allowed. */
  fault?: string | undefined;
  hint?: string | undefined;
  onText: (text: string) => void;
  /** Shown beside the input. */
  aside?: ReactNode;
  /** Several lines: so many are shown. */
  lines?: number;
};

/**
 * A labelled text field. Its fault is shown below it, and read out at once; whoever pressed a button goes on in the field.
 */
export function Field({ label, fault, hint, onText, aside, lines, ...input }: Props) {
  const id = useId();
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    // Nobody who writes elsewhere meanwhile is led away.
    if (fault !== undefined && !isField(document.activeElement))
      box.current?.querySelector<HTMLElement>("input, textarea")?.focus();
  }, [fault]);
  const note = fault ?? hint;
  const all = {
    id,
    "aria-invalid": fault !== undefined,
    "aria-describedby": note === undefined ? undefined : `${id}-note`,
  };
  return (
    <div className={css.field}>
      <label htmlFor={id}>{label}</label>
      <div ref={box} data-part="box" className={css.box}>
        {lines === undefined ? (
          <input {...all} onChange={(event) => onText(event.target.value)} {...input} />
        ) : (
          <textarea
            {...all}
            rows={lines}
            value={input.value}
            spellCheck={input.spellCheck}
            onChange={(event) => onText(event.target.value)}
          />
        )}
        {aside}
      </div>
      {note !== undefined && (
        <p
          key={fault}
          id={`${id}-note`}
          className={classes(css.note, fault !== undefined && css.fault)}
          role={fault === undefined ? undefined : "alert"}
        >
          {note}
        </p>
      )}
    </div>
  );
}
