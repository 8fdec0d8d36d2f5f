() => {
    // Pictures can be pasted anywhere on the page, arrow keys go from tab to tab, plots are figures with the names that
    // stand beside them, and results are announced.
    document.addEventListener("keydown", event => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        const tab = event.target.closest?.("#tabs [role=tab]");
        if (!step || !tab) return;
        const tabs = [...tab.parentElement.querySelectorAll("[role=tab]")];
        const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
        next.click();
        next.focus();
        event.preventDefault();
    });
    const named = { cone_plot: "title numbers", strip_plot: "strip_head", logits_plot: "logits_head",
        left_map: "left_words", right_map: "right_words" };
    const mark = () => {
        for (const [id, names] of Object.entries(named)) {
            const plot = document.querySelector(`#${id} .js-plotly-plot`);
            plot?.setAttribute("role", "figure");
            plot?.setAttribute("aria-labelledby", names);
        }
        for (const said of document.querySelectorAll("#verdict, #left_words, #right_words"))
            said.setAttribute("aria-live", "polite");
    };
    new MutationObserver(mark).observe(document.body, { childList: true, subtree: true });
    document.addEventListener("paste", event => {
        const files = [...event.clipboardData.files].filter(file => /^(image|video)\//.test(file.type));
        if (!files.length) return;
        event.preventDefault();
        const input = document.querySelector("#pictures input[type=file]");
        const list = new DataTransfer();
        files.forEach(file => list.items.add(file));
        input.files = list.files;
        input.dispatchEvent(new Event("change", { bubbles: true }));
    });
}
