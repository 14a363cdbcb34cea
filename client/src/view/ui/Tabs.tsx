import { useId, useRef, type KeyboardEvent, type ReactNode } from "react";
import css from "./Tabs.module.css";

type Props<T extends string> = {
  /** What the tabs are about. */
  label: string;
  tabs: readonly T[];
  tab: T;
  onTab: (tab: T) => void;
  /** What the chosen tab shows. */
  children: ReactNode;
};

/** The parts of a dialog, of which it shows one. Arrow keys move between the tabs; without others there are none. */
export function Tabs<T extends string>({ label, tabs, tab, onTab, children }: Props<T>) {
  const id = useId();
  const list = useRef<HTMLDivElement>(null);
  const several = tabs.length > 1;

  function onKeyDown(event: KeyboardEvent) {
    const at = stepTo(event.key, tabs.indexOf(tab), tabs.length);
    const next = tabs[at];
    if (next === undefined) return;
    event.preventDefault();
    onTab(next);
    list.current?.querySelectorAll<HTMLElement>("[role=tab]")[at]?.focus();
  }

  return (
    <>
      {several && (
        // oxlint-disable-next-line jsx-a11y/interactive-supports-focus -- its tabs have the focus
        <div ref={list} className={css.tabs} role="tablist" aria-label={label} onKeyDown={onKeyDown}>
          {tabs.map((one) => (
            <button
              key={one}
              type="button"
              role="tab"
              id={`${id}-${one}`}
              aria-selected={one === tab}
              aria-controls={`${id}-panel`}
              tabIndex={one === tab ? 0 : -1}
              onClick={() => onTab(one)}
              {...(one === tab && { "data-first": true })}
            >
              {one}
            </button>
          ))}
        </div>
      )}
      {/* oxlint-disable jsx-a11y/no-noninteractive-tabindex -- what scrolls must be scrollable with the keys */}
      <div
        // Each part starts at its top.
        key={tab}
        className={css.panel}
        id={`${id}-panel`}
        tabIndex={0}
        {...(several
          ? { role: "tabpanel", "aria-labelledby": `${id}-${tab}` }
          : { role: "region", "aria-label": tab })}
      >
        {children}
      </div>
      {/* oxlint-enable jsx-a11y/no-noninteractive-tabindex */}
    </>
  );
}

/** Where a key leads from the tab at this place; -1 for other keys. */
function stepTo(key: string, at: number, count: number): number {
  if (key === "Home") return 0;
  if (key === "End") return count - 1;
  const step = key === "ArrowRight" ? 1 : key === "ArrowLeft" ? -1 : 0;
  return step === 0 ? -1 : (at + step + count) % count;
}
