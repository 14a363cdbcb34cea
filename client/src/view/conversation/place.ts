/** Pixels from the bottom that still count as the bottom. */
const AT_BOTTOM = 48;

/**
 * What stays in place, in pixels below the top of the view: the beginning of a text that begins in sight, or the end of
 * a row that began above. Neither moves if earlier messages change the row's head.
 */
type Anchor = { key: string; edge: "top" | "bottom"; offset: number };

export type Place = ReturnType<typeof createPlace>;

/**
 * The owner of a scroller's place, which alone sets `scrollTop`. Whatever grows or shrinks, in the scroller or beside
 * it, a reader at the bottom stays there, and for a reader further up the first visible text does not move. Only the
 * user's own scrolling, or `jump`, changes between the two, except that a reader is at the bottom once nothing is left
 * below.
 *
 * It begins at the row with `data-target`, or else at the bottom, and follows changes of the scroller's own size and of
 * its first child's. Call `hold` after each other change of layout, before it is painted, and `moved` on scroll events.
 */
export function createPlace(scroller: HTMLElement) {
  let bottom = true;
  /** The first of these that still exists counts. */
  let anchors: Anchor[] = [];
  /** Where `hold` left the scroller. If it is elsewhere, the user has scrolled, or the browser for lack of content. */
  let held = scroller.scrollTop;
  /** While it is printed nothing scrolls. */
  const paper = matchMedia("print");

  function below(): number {
    return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
  }

  function hold() {
    if (paper.matches) return;
    // The scroll event may still be pending.
    const scrolled = scroller.scrollTop - held;
    if (bottom && scrolled < -1 && below() > AT_BOTTOM) {
      // The anchors are taken where the user has scrolled to already.
      leave();
    } else if (bottom) {
      scroller.scrollTop = scroller.scrollHeight;
    } else {
      // If the content ends here, the browser has scrolled, not the user.
      const own = below() > 1 ? scrolled : 0;
      const top = scroller.getBoundingClientRect().top;
      for (const { key, edge, offset } of anchors) {
        const row = scroller.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"]`);
        if (row === null) continue;
        const moved = edgeOf(row, edge) - top - offset + own;
        if (Math.abs(moved) >= 0.5) scroller.scrollTop += moved;
        break;
      }
      if (Math.abs(own) >= 0.5) anchors = inSight();
    }
    held = scroller.scrollTop;
  }

  function leave() {
    bottom = false;
    anchors = inSight();
    held = scroller.scrollTop;
  }

  function inSight(): Anchor[] {
    const { top, bottom: end } = scroller.getBoundingClientRect();
    const rows = scroller.querySelectorAll<HTMLElement>("[data-key]");
    let low = 0;
    let high = rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (edgeOf(rows[middle] as HTMLElement, "bottom") <= top) low = middle + 1;
      else high = middle;
    }
    const begun: Anchor[] = [];
    const cut: Anchor[] = [];
    for (let at = low; at < rows.length; at++) {
      const row = rows[at] as HTMLElement;
      const key = row.dataset["key"] ?? "";
      const begins = edgeOf(row, "top");
      if (begins >= end) break;
      if (begins >= top) begun.push({ key, edge: "top", offset: begins - top });
      else cut.push({ key, edge: "bottom", offset: edgeOf(row, "bottom") - top });
    }
    return [...begun, ...cut];
  }

  function show(row: HTMLElement) {
    const { top, height } = scroller.getBoundingClientRect();
    const box = row.getBoundingClientRect();
    scroller.scrollTop += box.top - top - Math.max(0, (height - box.height) / 2);
    leave();
  }

  const target = scroller.querySelector<HTMLElement>("[data-target]");
  if (target === null) hold();
  else show(target);
  const observer = new ResizeObserver(hold);
  observer.observe(scroller);
  if (scroller.firstElementChild) observer.observe(scroller.firstElementChild);

  return {
    hold,
    end: () => observer.disconnect(),

    /** `last`: whether the content ends with the newest message. */
    moved(last: boolean) {
      const scrolled = scroller.scrollTop - held;
      if (last && below() <= AT_BOTTOM) {
        bottom = true;
        held = scroller.scrollTop;
      } else if (bottom) {
        if (!last || scrolled < -1) leave();
        else hold();
      } else if (anchors.length === 0 || Math.abs(scrolled) >= 0.5) leave();
    },

    jump() {
      bottom = true;
      held = -Infinity;
      hold();
    },

    /** Scrolls a row to the middle of the view. */
    show,

    /** Scrolls by so many views, as the user's own scrolling does. */
    page(views: number) {
      scroller.scrollBy({ top: views * 0.9 * scroller.clientHeight });
    },

    get printed() {
      return paper.matches;
    },
    /** How many pixels are above and below the visible part. */
    get above() {
      return scroller.scrollTop;
    },
    get below() {
      return below();
    },
    get atBottom() {
      return bottom;
    },
  };
}

/** In fractions of a pixel, unlike offsetTop. */
function edgeOf(row: HTMLElement, edge: Anchor["edge"]): number {
  if (edge === "bottom") return row.getBoundingClientRect().bottom;
  return (row.querySelector("[data-part=body]") ?? row).getBoundingClientRect().top;
}
