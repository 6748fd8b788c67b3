"""What a change did to data, params and metrics, and whether that is more than chance: one page for a pull request.

    python -m tools.report BASE [HEAD]

`revisions` reads git, `comparison` separates signal from noise, `contents` gathers everything as one tree of values,
`page` renders that as Markdown. Nothing here needs data, a remote, a GPU or torch.
"""
