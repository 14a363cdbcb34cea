import { useId } from "react";
import css from "./Choices.module.css";

type Props<T extends string> = {
  /** What is chosen. */
  legend: string;
  value: T | null;
  choices: readonly { value: T; words: string; note: string }[];
  onChoose: (value: T) => void;
  /** A dialog's focus starts at the chosen one. */
  first?: boolean;
};

/** One of a few choices, each with what it means. */
export function Choices<T extends string>({ legend, value, choices, onChoose, first = false }: Props<T>) {
  const name = useId();
  return (
    <fieldset className={css.choices}>
      <legend>{legend}</legend>
      {choices.map((one) => (
        <label key={one.value}>
          <input
            type="radio"
            name={name}
            checked={one.value === value}
            onChange={() => onChoose(one.value)}
            {...(first && one.value === value && { "data-first": true })}
          />
          <span>
            {one.words}
            <small>{one.note}</small>
          </span>
        </label>
      ))}
    </fieldset>
  );
}
