// xterm.js makes style sheets as it runs, and writes style attributes. The page's policy lets
// in no style that does not carry this answer's number, and no style attribute at all: what is
// ours is given the number here, and the attribute is set through the object model.

export function letOurStylesIn(of = document) {
  const nonce = of.querySelector("script[nonce]").nonce;
  const createElement = of.createElement.bind(of);
  of.createElement = (name, options) => {
    const made = createElement(name, options);
    if (name === "style") made.nonce = nonce;
    return made;
  };
  const setAttribute = Element.prototype.setAttribute;
  Element.prototype.setAttribute = function set(name, value) {
    if (name === "style") this.style.cssText = value;
    else setAttribute.call(this, name, value);
  };
}
