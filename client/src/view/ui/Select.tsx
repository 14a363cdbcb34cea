import css from "./Select.module.css";

type Props<T extends string | number> = {
  label: string;
  value: T;
  options: readonly { value: T; words: string }[];
  onValue: (value: T) => void;
};

/** One of a few values. One that is not among them is shown as it is. */
export function Select<T extends string | number>({ label, value, options, onValue }: Props<T>) {
  const known = options.some((one) => one.value === value);
  const all = known ? options : [...options, { value, words: String(value) }];
  return (
    <label className={css.select}>
      {label}
      <select
        value={value}
        onChange={(event) => {
          const chosen = all[event.target.selectedIndex];
          if (chosen !== undefined) onValue(chosen.value);
        }}
      >
        {all.map((one) => (
          <option key={one.value} value={one.value}>
            {one.words}
          </option>
        ))}
      </select>
    </label>
  );
}
