/** Pixels from the bottom that still count as being there. */
const AT_BOTTOM = 48;

/**
 * What stays where it is, in pixels below the top of the view: the beginning of a text that begins in sight, or the
 * end of a row that began above. Neither moves when what goes before brings the row another head.
 */
type Anchor = { key: string; edge: "top" | "bottom"; offset: number };

export type Place = ReturnType<typeof createPlace>;

/**
 * The owner of a scroller's place, and the only one who sets `scrollTop`. Whatever grows or shrinks, in the scroller or
 * beside it, whoever is at the bottom stays there, and for whoever reads above the first text in sight stays.
 * Only a person's own scrolling, or `jump`, changes which of the two it is, except that the end of the content comes
 * to whoever is left without more of it.
 *
 * `hold` is called after each change of layout and before it is painted; `moved` when the scroller tells of scrolling.
 */
export function createPlace(scroller: HTMLElement) {
  let bottom = true;
  /** The first that is still there counts. */
  let anchors: Anchor[] = [];
  /** Where `hold` left the scroller. Elsewhere, a person has scrolled, or the browser has for want of content. */
  let held = scroller.scrollTop;

  function below(): number {
    return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
  }

  function hold() {
    // The event that tells of scrolling may still be to come.
    const scrolled = scroller.scrollTop - held;
    if (bottom && scrolled < -1 && below() > AT_BOTTOM) leave();
    if (bottom) {
      scroller.scrollTop = scroller.scrollHeight;
    } else {
      // Where the content ends here, the browser has scrolled and not a person.
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

  return {
    hold,

    /** `last`: the content ends with the newest message. */
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

    /** Brings a row into the middle of the view. */
    show(row: HTMLElement) {
      const { top, height } = scroller.getBoundingClientRect();
      const box = row.getBoundingClientRect();
      scroller.scrollTop += box.top - top - Math.max(0, (height - box.height) / 2);
      leave();
    },

    /** In pixels, how much there is above and below what is in sight. */
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

/** In fractions of a pixel, which offsetTop does not give. */
function edgeOf(row: HTMLElement, edge: Anchor["edge"]): number {
  if (edge === "bottom") return row.getBoundingClientRect().bottom;
  return (row.querySelector("[data-part=body]") ?? row).getBoundingClientRect().top;
}
