import { useParley } from '../context'

export function useIsAdmin(): boolean {
  return useParley().me?.roles.includes('admin') === true
}

/** Says why somebody cannot do what this room is for; nothing for those who can. */
export function NeedsAdmin({ to }: { to: string }) {
  const { me } = useParley()
  if (me === null || me.roles.includes('admin')) return null
  return (
    <p class="notice boxed" role="note">
      <span>
        {to} takes the role <code>admin</code>. You are {me.name}, with {me.roles.length === 0 ? 'no role' : me.roles.join(', ')}.
      </span>
    </p>
  )
}
