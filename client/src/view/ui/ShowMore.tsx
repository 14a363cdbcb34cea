import { useLayoutEffect, useRef, useState, type ReactNode } from "react";
import { Button } from "./Button.tsx";

type Props = {
  /** Whether there is more. */
  more: boolean;
  /** How many rows are shown. */
  count: number;
  /** Whether more is loading. */
  busy?: boolean;
  onMore: () => void;
  /** Goes on after so many rows, where the keys are not the rows' own. */
  onNew?: ((shown: number) => void) | undefined;
  children?: ReactNode;
};

/**
 * The button below a list that shows more of it. After a press the focus goes to the first new row, or to the last one if
 * none came, unless the user has moved it meanwhile. Must stay rendered when there is no more.
 */
export function ShowMore({ more, count, busy = false, onMore, onNew, children = "Show more" }: Props) {
  const asked = useRef<{ button: HTMLElement; around: Element; last: Element | undefined; count: number }>(
    null,
  );
  const [waits, setWaits] = useState(false);
  if (waits && !busy) setWaits(false);

  useLayoutEffect(() => {
    const isOver = !more && !waits;
    if (asked.current === null || (count <= asked.current.count && !isOver)) return;
    const { button, around, last, count: shown } = asked.current;
    asked.current = null;
    const isHere = document.activeElement === document.body || document.activeElement === button;
    const rows = [...around.querySelectorAll("li")];
    const row = rows[last === undefined ? 0 : rows.indexOf(last as HTMLLIElement) + 1] ?? rows.at(-1);
    if (!isHere || row === undefined) return;
    if (onNew !== undefined) {
      onNew(shown);
      return;
    }
    const place = row.querySelector<HTMLElement>("button, a");
    if (place === null) row.tabIndex = -1;
    (place ?? row).focus();
  });

  if (!more && !waits) return null;
  return (
    <Button
      wide
      busy={busy}
      onClick={({ currentTarget: button }) => {
        const around = button.parentElement ?? document.body;
        const last = [...around.querySelectorAll("li")].findLast(
          (row) => (row.compareDocumentPosition(button) & Node.DOCUMENT_POSITION_FOLLOWING) !== 0,
        );
        asked.current = { button, around, last, count };
        setWaits(true);
        onMore();
      }}
    >
      {children}
    </Button>
  );
}
