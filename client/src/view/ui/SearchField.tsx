import { LIMITS } from "@hubbub/server/protocol";
import type { InputHTMLAttributes, Ref } from "react";
import { Icon } from "./Icon.tsx";
import css from "./SearchField.module.css";
import { Spinner } from "./Spinner.tsx";

type Props = Omit<InputHTMLAttributes<HTMLInputElement>, "className"> & {
  ref?: Ref<HTMLInputElement>;
  label: string;
  busy: boolean;
  onText: (text: string) => void;
};

/** The field for a search text. A dialog's focus starts here. */
export function SearchField({ label, busy, onText, ...input }: Props) {
  return (
    <label data-part="box" className={css.search}>
      <span className={css.sign} aria-hidden="true">
        <Icon name="search" />
        {busy && (
          <span className={css.busy}>
            <Spinner />
          </span>
        )}
      </span>
      <span className="hidden">{label}</span>
      <input
        type="search"
        placeholder={label}
        maxLength={LIMITS.search}
        data-first
        autoComplete="off"
        onChange={(event) => onText(event.target.value.slice(0, LIMITS.search))}
        {...input}
      />
    </label>
  );
}
