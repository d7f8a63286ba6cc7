"""From a photo site to a table: pages and pictures fetched politely, read as a site's description says.

Runs on one machine, as a driver does, and needs no Spark: a site's own patience is what bounds a crawl. Touches the
web, by Scrapy, and the output's store. Besides storage, schema and errors it imports the output's lease and manifests
(``table``), as two crawls must no more write to one output than two runs, and ``decode``, to tell a picture from what
is none.

Inside: ``description`` is what is known of a site, as data, ``templates`` its start addresses; ``page`` is one page as
it came, ``finding`` the ways to a value, ``cleaning`` what is done to it, ``reading`` a page by a description.
``addresses`` and ``robots`` say what may be asked for, ``gate`` sees to it. ``journal`` keeps what is done, so that a
killed crawl goes on, ``progress`` knows what is left, ``tables`` is what comes of it, ``health`` notices that a site
has changed. ``spider`` fetches, ``web`` runs it, ``crawling`` wires all of it; ``archive`` reads pages that were kept,
``asking`` a few new ones, and ``checking``, ``reparsing`` and ``repairing``, with ``mining`` and ``rewriting``, are the
verb's other forms.
"""
