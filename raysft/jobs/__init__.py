"""Jobs on a cluster: what is sent, how it is followed, and how it is stopped and taken up again."""
