import { Component, h, type ComponentChildren, type ComponentType } from 'preact'

/** A component that re-renders only when one of the watched properties (by default all) changes. */
export function memo<P extends object>(inner: ComponentType<P>, watched?: readonly (keyof P & string)[]): ComponentType<P> {
  return class Memo extends Component<P> {
    override shouldComponentUpdate(next: Readonly<P>): boolean {
      const before = this.props as Record<string, unknown>
      const after = next as Record<string, unknown>
      const names = watched ?? Object.keys(after)
      return (watched === undefined && names.length !== Object.keys(before).length) || names.some((name) => before[name] !== after[name])
    }

    override render(): ComponentChildren {
      return h(inner, this.props as P)
    }
  }
}
