  const number = (value) => value.toLocaleString("en-US", { maximumSignificantDigits: 3 });
  const count = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 0 });

  const raised = (sign) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(sign)];
  const power = (value) => "10" + String(Math.round(Math.log10(value))).replace(/./g, raised);

  // Round numbers from low to high, no two of them nearer than `gap` once placed.
  function logTicks(low, high, place = Math.log, gap = 0) {
    const ratio = high / low;
    let digits = [1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9];
    if (ratio > 3) digits = [1, 2, 3, 5, 7];
    if (ratio > 12) digits = [1, 3];
    if (ratio > 300) digits = [1];
    const ticks = [];
    for (let k = Math.floor(Math.log10(low)); k <= Math.log10(high); k++)
      for (const tick of digits.map((digit) => Number(`${digit}e${k}`))) {
        const crowded = ticks.some((other) => Math.abs(place(other) - place(tick)) < gap);
        if (tick >= low * 0.999 && tick <= high * 1.001 && !crowded) ticks.push(tick);
      }
    return ticks;
  }

  function linearTicks(high, most = 6) {
    const unit = 10 ** Math.floor(Math.log10(high / most));
    const step = unit * [1, 2, 5, 10].find((factor) => high / (factor * unit) <= most);
    return Array.from({ length: Math.floor(high / step) + 1 }, (_, i) => i * step);
  }

  const controlsOf = (root) =>
    Object.fromEntries([...root.querySelectorAll("[data-control]")].map((e) => [e.dataset.control, e]));

  function offer(select, names, chosen) {
    select.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
  }

  // A slider steps through a list.
  function setSlider(slider, list, value) {
    slider.max = list.length - 1;
    slider.value = list.indexOf(value);
  }

  function readSlider(slider, list, label) {
    const value = list[slider.value];
    slider.parentElement.querySelector("b").textContent = label(value);
    slider.setAttribute("aria-valuetext", label(value));
    return value;
  }

  function sayIn(root, sentence, plotted) {
    const negative = /(^|[\s(\u00a0])-(?=\d)/g;
    root.querySelector(".readout").textContent = sentence.replaceAll(" = ", "\u00a0=\u00a0").replace(negative, "$1−");
    root.querySelector("svg.plot").setAttribute("aria-label", `${plotted} ${sentence}`);
  }

  // Plots are redrawn at the width of the page, so that letters keep their size on a phone.
  const sizeOf = (root) => Math.max(320, Math.min(800, root.clientWidth || 720));

  function redrawAtNewSize(root, update) {
    let drawn = root.clientWidth;
    new ResizeObserver(() => {
      if (root.clientWidth === drawn) return;
      drawn = root.clientWidth;
      update();
    }).observe(root);
  }

  const heard = (control) => control.dispatchEvent(new Event("input", { bubbles: true }));

  function stateOf(root) {
    const values = Object.entries(controlsOf(root));
    return new URLSearchParams(values.map(([name, e]) => [name, e.type === "checkbox" ? Number(e.checked) : e.value]));
  }

  // In the order of the controls, as what one offers may depend on those before it.
  function setState(root, state) {
    for (const [name, control] of Object.entries(controlsOf(root))) {
      if (!state.has(name)) continue;
      const value = state.get(name);
      if (control.type === "checkbox") control.checked = value === "1";
      else if (control.type === "range" || [...control.options].some((option) => option.value === value)) control.value = value;
      heard(control);
    }
  }

  // A page's address holds the view that was changed last, so that it can be linked. Jupyter's address is not ours.
  function keepInAddress(root, name) {
    const place = `#${name.slice(1)}?`;
    const start = stateOf(root);
    const own = document.querySelector(".bd-article, body.wsn-page") !== null;
    const write = (state) => {
      if (own) history.replaceState(null, "", state ? place + state : location.pathname + location.search);
    };
    if (own && location.hash.startsWith(place)) {
      setState(root, new URLSearchParams(location.hash.slice(place.length)));
      addEventListener("load", () => root.scrollIntoView());
    }
    let waiting;
    root.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => write(stateOf(root)), 250);
    });
    root.querySelector("button.reset").addEventListener("click", () => {
      setState(root, start);
      clearTimeout(waiting);
      write(null);
    });
  }

  function bringToLife(name, explore) {
    for (const root of document.querySelectorAll(`${name}:not([data-ready])`)) {
      root.dataset.ready = "";
      const controls = root.querySelector(".controls");
      controls.hidden = false;
      controls.insertAdjacentHTML("beforeend", '<button type="button" class="reset">Reset</button>');
      // Else Jupyter takes keys that are meant for a control: m makes Markdown of a cell. It asks no element above.
      for (const control of root.querySelectorAll("input, select, summary, button"))
        control.dataset.lmSuppressShortcuts = "";
      explore(root);
      keepInAddress(root, name);
    }
  }

  // Where a pointer is in the coordinates of a plot: hovering with a mouse, or a tap.
  function onPointer(svg, choose) {
    const at = (event) => {
      const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      choose(x, y);
    };
    svg.addEventListener("pointermove", (event) => event.pointerType === "mouse" && at(event));
    svg.addEventListener("click", at);
  }
