import type { InputHTMLAttributes } from "react";
import { LIMITS } from "@hubbub/server/protocol";
import { Icon } from "./Icon.tsx";

type Props = InputHTMLAttributes<HTMLInputElement> & {
  label: string;
  busy: boolean;
  onText: (text: string) => void;
};

/** Where one types what is looked for. The focus of a dialog begins here. */
export function SearchField({ label, busy, onText, ...input }: Props) {
  return (
    <label className="search">
      <span className="search-sign" aria-hidden="true">
        <Icon name="search" />
        {busy && <span className="spinner" />}
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
