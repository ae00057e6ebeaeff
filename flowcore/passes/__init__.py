"""Graph → graph passes, one file each; `flowcore.pipeline` and `flowcore.lower` call them in this order.

*Before planning*, on logical values, so that only what runs is priced: `inline` opens what stands for a graph; `dce`
and `cse` take out what is dead or there twice; `fold` and `simplify` compute by algebra, after which `cse` finds more
that is equal; `rows` keeps gradients of tables small, whose patterns the others have cleared. (`precision` comes before
all of these: what it casts is then simplified like the rest.)

*After boxing*, the same on all ranks: `gather_first` changes what is moved, and `dce` and `cse` clean up; `upright`
turns products; `checks` puts what may fail first, for it decides what may be written in place. Transfers that `early`
brings together `bucket` joins, and only then `route` looks for the path of each, for it depends on its bytes. `late`
and `ahead` bring what follows and precedes a transfer between hosts to where the transfer stands now.
(`regather` follows where a step would hold more than it may: `flowcore.planned`.)

*Towards one rank*: `update` orders what replaces inputs; `share` lets ranks of a host meet (by `scatter_first`,
`divide`, `common` and `arrange`, which must agree on all ranks, so they go before anything that depends on the lengths
of blocks); `overlap` says when transfers begin and end; `widen` casts what is narrow.

*On its blocks*: `channels_last` first, since it moves transposes, which `views` and `transposes` then find to be free;
`parts`, `picks`, `tables` and `lists` match operators that fusion would hide; `fuse` (with `spaces` and `recompute`),
`broaden` and `fuse.compile_small` make loops; `views.pack` copies what these cannot read; `order` needs the nodes that
run. Last, registers: `donate` writes over inputs, `show` gives peers places, and `reuse` what is left.
"""
