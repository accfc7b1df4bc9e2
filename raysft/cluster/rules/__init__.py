"""What must hold for the files of clusters, and schemas cannot say."""
