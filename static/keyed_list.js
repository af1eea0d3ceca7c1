/** Children of a container, one for each item, kept while the item is there. */

export class KeyedList {
  #container;
  #makeView;
  #views = new Map();

  /** `makeView(item)` returns a view: {element, update(item)}. Items have a unique `key`. */
  constructor(container, makeView) {
    this.#container = container;
    this.#makeView = makeView;
  }

  /** The view of the item with `key`; null when there is none. */
  viewOf(key) {
    return this.#views.get(key) ?? null;
  }

  render(items) {
    const keys = new Set(items.map((item) => item.key));
    for (const [key, view] of this.#views) {
      if (keys.has(key)) continue;
      view.element.remove();
      this.#views.delete(key);
    }
    let place = this.#container.firstElementChild;
    for (const item of items) {
      const view = this.#view(item);
      view.update(item);
      // Moving an element makes it lose its focus and its scroll position: only where needed.
      if (view.element === place) place = place.nextElementSibling;
      else this.#container.insertBefore(view.element, place);
    }
  }

  #view(item) {
    let view = this.#views.get(item.key);
    if (view === undefined) {
      view = this.#makeView(item);
      this.#views.set(item.key, view);
    }
    return view;
  }
}
