"""What a change did to data, params and metrics, and whether it means anything: one page for a pull request.

    python -m tools.report BASE [HEAD]

revisions reads git, comparison tells signal from noise, contents gathers everything as one nest of plain values, page
renders that as Markdown. Nothing here needs data, a remote, a GPU or torch.
"""
